import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from topographic.runs import sources
from topographic.runs.sources import Source, ctranslate2_file, found_source, is_path


class Unreachable(Exception):
    """As httpx has them: no OSError."""


@pytest.fixture
def hub(monkeypatch):
    """Answers of the hub and files of its cache, by name; every other name cannot be reached."""
    answers, cached = {}, set()

    def model_info(self, name, *, timeout):
        assert timeout <= 10
        if isinstance(answers.get(name, Unreachable("no route")), Exception):
            raise answers.get(name, Unreachable("no route"))
        return answers[name]

    monkeypatch.setattr(HfApi, "model_info", model_info)
    monkeypatch.setattr(
        sources, "try_to_load_from_cache", lambda name, file: "/there" if (name, file) in cached else None
    )
    return answers, cached


@pytest.mark.parametrize(
    "word", ["./a", "../a", "/a", "~/a", "a/b/c", "a/", "a b", "model.gguf", "b/w.safetensors", "runs/a"]
)
def test_words_that_are_paths(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_path(word)
    began = time.monotonic()
    with pytest.raises(FileNotFoundError, match=r"no folder or file at .*; correct the name$"):
        found_source(word)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("word", ["gpt2", "owner/name", "EleutherAI/gpt-neo-1.3B", "a_b.c/d-e"])
def test_words_that_are_names(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_path(word)
    assert is_path(Path(word)), "a Path means a place"


def test_a_word_beside_runs_or_models_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "papers").mkdir(parents=True)
    assert not is_path("owner/name")
    (tmp_path / "owner" / "first" / "model").mkdir(parents=True)
    assert is_path("owner/name")
    with pytest.raises(
        FileNotFoundError, match=r"no folder or file at owner/fist; correct the name: the nearest .* owner/f"
    ):
        found_source("owner/fist")


def test_a_name_on_the_hub(hub):
    answers, cached = hub
    answers["owner/there"] = object()
    assert found_source("owner/there") == Source("owner/there")
    with pytest.raises(
        OSError, match=r"no folder gpt2 here, and the hub cannot be reached .*\(no route\); give a folder"
    ):
        found_source("gpt2")
    cached.add(("gpt2", "tokenizer.json"))
    assert found_source("gpt2") == Source("gpt2", {"local_files_only": True}), "the cache alone, without five attempts"


def test_a_name_that_the_hub_does_not_know(hub, monkeypatch):
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    hub[0]["owner/wrong"] = error
    with pytest.raises(FileNotFoundError, match="no folder owner/wrong here, and no model of that name on the hub"):
        found_source("owner/wrong")


def test_offline_is_respected(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"no folder nobody/nothing here.*offline"):  # the tests run with HF_HUB_OFFLINE=1
        found_source("nobody/nothing")
    assert time.monotonic() - began < 5


def write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")
    return folder


def test_folders_of_runs_and_models(tmp_path):
    model = write(tmp_path / "run" / "model", "config.json", "model.safetensors")
    assert found_source(tmp_path / "run") == found_source(str(model)) == Source(str(model), {}, model)
    shards = write(tmp_path / "shards", "config.json", "model.safetensors.index.json")
    assert found_source(shards).name == str(shards)
    quantised = write(tmp_path / "there", "a.gguf") / "a.gguf"
    assert found_source(quantised) == Source(str(tmp_path / "there"), {"gguf_file": "a.gguf"}, tmp_path / "there")
    assert found_source(write(tmp_path / "words"), needs_model=False).folder == tmp_path / "words"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"holds no model \(no config\.json\); give a run, the folder of a model or a hub name"),
        (["config.yaml"], r"holds no model; finish its training first: topo train '.*a b/config\.yaml' run='.*a b'$"),
        (
            ["model.bin"],
            r"holds model\.bin, as CTranslate2 writes it, which is read as a speech encoder alone \(a Whisper, t",
        ),
        (["config.json"], r"holds no weights; expected model\.safetensors beside config\.json"),
        (
            ["config.json", "pytorch_model.bin"],
            r"holds pytorch_model\.bin and no model\.safetensors; what could be executed is not read: if you trust",
        ),
    ],
)
def test_folders_without_a_model(names, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        found_source(write(tmp_path / "a b", *names))
    assert "\n" not in str(caught.value)


def test_where_weights_of_ctranslate2_lie(tmp_path):
    file = write(tmp_path / "package" / "model", "model.bin", "config.json") / "model.bin"
    assert ctranslate2_file(tmp_path / "package") == ctranslate2_file(str(file.parent)) == file
    for beside in ("model.safetensors", "model.safetensors.index.json"):
        both = write(tmp_path / beside, "model.bin", beside, "config.json")
        assert ctranslate2_file(both) is None
        assert found_source(both).folder == both
    assert ctranslate2_file(tmp_path / "absent") is None
    assert ctranslate2_file("openai/whisper-tiny.en") is None


def test_a_file_that_is_no_model(tmp_path):
    file = write(tmp_path, "weights.safetensors") / "weights.safetensors"
    with pytest.raises(ValueError, match=r"weights\.safetensors is a file; expected a run, the folder of a model"):
        found_source(file)


def test_a_revision_of_a_name_on_the_hub(monkeypatch):
    asked, cached = [], set()

    def model_info(self, name, *, timeout, revision=None):
        asked.append((name, revision))
        if revision == "step9":
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)
        if revision == "step4":
            raise Unreachable("no route")

    monkeypatch.setattr(HfApi, "model_info", model_info)
    monkeypatch.setattr(
        sources,
        "try_to_load_from_cache",
        lambda name, file, revision: "/there" if (name, revision) in cached else None,
    )
    assert found_source("owner/there@step1") == Source("owner/there", {"revision": "step1"})
    assert asked == [("owner/there", "step1")]
    with pytest.raises(FileNotFoundError, match="owner/there has no revision step9 on the hub; correct its name"):
        found_source("owner/there@step9")
    with pytest.raises(OSError, match="the hub cannot be reached for its revision step4"):
        found_source("owner/there@step4")
    cached.add(("owner/there", "step4"))
    assert found_source("owner/there@step4").options == {"revision": "step4", "local_files_only": True}
