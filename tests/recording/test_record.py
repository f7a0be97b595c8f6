import copy
import inspect

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from topographic.models import TopoLMConfig, TopoLMForCausalLM
from topographic.recording import POOLINGS, find_sites, record, tap
from topographic.sheets import Sheet, from_positions, grid, permuted_grid
from topographic.stimuli import StimulusSet

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "tree",
    "sees",
    "hears",
    "likes",
    "old",
    "young",
    "small",
    "in",
    "under",
    "near",
]
ITEMS = [
    "the cat sees a dog",
    "dog",
    "the old bird likes the small tree near a young cat",
    "a tree",
    "the dog hears the bird in the tree",
    "young cat",
    "small old young",
]


def make_tokenizer(**special):
    vocabulary = {word: index for index, word in enumerate([*WORDS, "<s>", "[CLS]", "[SEP]", "<pad>"])}
    model = Tokenizer(WordLevel(vocabulary, unk_token="the"))
    model.pre_tokenizer = WhitespaceSplit()
    if "cls_token" in special:
        ids = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
        model.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=model, **special)


def gpt2():
    config = GPT2Config(n_layer=2, n_head=2, n_embd=12, vocab_size=20, n_positions=16)
    return GPT2LMHeadModel(config), "transformer.h.1.attn"


def llama():
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    return LlamaModel(LlamaConfig(**sizes, vocab_size=20, max_position_embeddings=16)), "layers.1"


def bert(kind=(BertConfig, BertModel)):
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    return kind[1](kind[0](**sizes, vocab_size=20, max_position_embeddings=24)), "encoder.layer.1.output"


def roberta():
    return bert((RobertaConfig, RobertaModel))


def topolm():
    return TopoLMForCausalLM(TopoLMConfig(n_layer=2, n_head=3, n_embd=12, vocab_size=20, n_positions=16)), None


class Plain(nn.Module):
    """A bidirectional torch model that cannot be told about pads."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True)

    def forward(self, ids):
        return self.layer(self.embed(ids))


def plain():
    return Plain(), "layer"


MODELS = {"gpt2": gpt2, "llama": llama, "bert": bert, "roberta": roberta, "topolm": topolm, "plain": plain}


@pytest.fixture(params=MODELS)
def model_and_site(request):
    torch.manual_seed(0)
    model, site = MODELS[request.param]()
    return model, site or next(iter(model.sheets()))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return gpt2()[0]


@pytest.fixture
def stimuli():
    return StimulusSet("toy", ITEMS, ["a", "b"] * 3 + ["a"])


@pytest.fixture
def tokenizer():
    return make_tokenizer(bos_token="<s>")


SITE = "transformer.h.1.attn"


def one_by_one(model, site, sequences):
    """Every sequence alone, without a pad in sight: (tokens, units) each."""
    was_training = model.training
    model.eval()
    outputs = []
    for ids in sequences:
        with torch.no_grad(), tap(model, site) as heard:
            model(torch.tensor([ids]))
        outputs.append(heard[site][0].double().numpy())
    model.train(was_training)
    return outputs


def ids_of(item):
    return [WORDS.index(word) for word in item.split()]


BOS = len(WORDS)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("add_bos", [None, False])
def test_equals_each_item_alone(model_and_site, stimuli, tokenizer, pooling, add_bos):
    model, site = model_and_site
    responses = record(model, tokenizer, stimuli, site, pooling=pooling, add_bos=add_bos, progress=False)[site]
    start = [] if add_bos is False else [BOS]
    alone = one_by_one(model, site, [start + ids_of(item) for item in ITEMS])
    reduce = {"mean": lambda a: a.mean(0), "sum": lambda a: a.sum(0), "last": lambda a: a[-1]}[pooling]
    expected = np.stack([reduce(output[len(start) :]) for output in alone])
    np.testing.assert_allclose(responses.values, expected, atol=1e-5)
    assert np.abs(expected - expected.mean(0)).max() > 1e-3
    assert responses.n_tokens.tolist() == [len(item.split()) for item in ITEMS]
    assert responses.provenance["bos"] is (add_bos is None)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_responses_do_not_depend_on_the_batch(model_and_site, stimuli, tokenizer, batch_size):
    model, site = model_and_site
    first = record(model, tokenizer, stimuli, site, batch_size=4, progress=False)[site]
    second = record(model, tokenizer, stimuli, site, batch_size=batch_size, progress=False)[site]
    np.testing.assert_allclose(first.values, second.values, atol=1e-5)


def test_responses_do_not_depend_on_the_company(model, stimuli, tokenizer):
    every = record(model, tokenizer, stimuli, SITE, progress=False)[SITE]
    some = record(model, tokenizer, stimuli.take([5, 2]), SITE, progress=False)[SITE]
    np.testing.assert_allclose(every.values[[5, 2]], some.values, atol=1e-5)


def test_padding_settings_of_the_tokenizer_do_not_matter(model, stimuli):
    variants = [
        make_tokenizer(bos_token="<s>", **extra)
        for extra in (
            {},
            {"padding_side": "left"},
            {"pad_token": "<pad>"},
            {"pad_token": "the", "padding_side": "left"},
        )
    ]
    assert variants[0].pad_token_id is None
    values = [record(model, tokenizer, stimuli, SITE, progress=False)[SITE].values for tokenizer in variants]
    for other in values[1:]:
        np.testing.assert_allclose(values[0], other, atol=1e-5)


def test_special_tokens_are_shown_but_not_pooled(stimuli):
    torch.manual_seed(0)
    model, site = bert()
    tokenizer = make_tokenizer(cls_token="[CLS]", sep_token="[SEP]")
    cls, sep = BOS + 1, BOS + 2
    alone = one_by_one(model, site, [[cls, *ids_of(item), sep] for item in ITEMS])
    for pooling, reduce in {"mean": lambda a: a.mean(0), "last": lambda a: a[-1]}.items():
        responses = record(model, tokenizer, stimuli, site, pooling=pooling, progress=False)[site]
        expected = np.stack([reduce(output[1:-1]) for output in alone])
        np.testing.assert_allclose(responses.values, expected, atol=1e-5)
    assert responses.n_tokens.tolist() == [len(item.split()) for item in ITEMS]
    assert responses.provenance["bos"] is False


def test_a_bos_the_tokenizer_sets_itself_is_not_doubled_and_can_be_left_out(model, stimuli, tokenizer):
    own = make_tokenizer(bos_token="<s>")
    ids = [("<s>", BOS)]
    own.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=ids)
    assert own("cat")["input_ids"][0] == BOS
    for add_bos in (None, True, False):
        first = record(model, tokenizer, stimuli, SITE, add_bos=add_bos, progress=False)[SITE]
        second = record(model, own, stimuli, SITE, add_bos=add_bos, progress=False)[SITE]
        np.testing.assert_allclose(first.values, second.values, atol=1e-6)


def test_a_tokenizer_without_bos(model, stimuli):
    bare = make_tokenizer()
    default = record(model, bare, stimuli, SITE, progress=False)[SITE]
    without = record(model, bare, stimuli, SITE, add_bos=False, progress=False)[SITE]
    assert np.array_equal(default.values, without.values)
    assert default.provenance["bos"] is False
    with pytest.raises(ValueError, match=r"add_bos=True, but .* has no bos_token"):
        record(model, bare, stimuli, SITE, add_bos=True)


def test_dropout_is_off_and_modes_come_back(model, stimuli, tokenizer):
    model.train()
    model.transformer.h[0].eval()
    model.transformer.h[1].attn.requires_grad_(False)
    modes = {name: module.training for name, module in model.named_modules()}
    weights = copy.deepcopy(model.state_dict())
    first = record(model, tokenizer, stimuli, SITE, progress=False)[SITE]
    second = record(model, tokenizer, stimuli, SITE, progress=False)[SITE]
    assert np.array_equal(first.values, second.values)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_come_back_after_an_error(model, stimuli, tokenizer):
    model.train()
    with pytest.raises(ValueError, match="gives shape"):
        record(model, tokenizer, stimuli, "transformer.wpe", progress=False)
    assert all(module.training for module in model.modules())


def test_several_sites_get_their_own_sheets(model, stimuli, tokenizer):
    sites = find_sites(model, "transformer.h.*.mlp*")
    everything = record(model, tokenizer, stimuli, "transformer.h.*.mlp*", permuted_grid, progress=False)
    assert list(everything) == sites
    assert everything["transformer.h.0.mlp.c_fc"].values.shape == (len(ITEMS), 48)
    sheets = [everything[f"transformer.h.{block}.mlp"].sheet for block in range(2)]
    assert sheets[0] == permuted_grid(12, "transformer.h.0.mlp")
    assert sheets[0].checksum != sheets[1].checksum
    alone = record(model, tokenizer, stimuli, sites[2], progress=False)[sites[2]]
    np.testing.assert_allclose(alone.values, everything[sites[2]].values, atol=1e-6)


def test_sheets_of_a_topographic_model(stimuli, tokenizer):
    torch.manual_seed(0)
    model = topolm()[0]
    responses = record(model, tokenizer, stimuli, list(model.sheets()), model.sheets(), progress=False)
    assert {site: entry.sheet for site, entry in responses.items()} == model.sheets()


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_a_model_that_carries_sheets_uses_them(stimuli, tokenizer, wrap):
    torch.manual_seed(0)
    bare = topolm()[0]
    model, sheets = wrap(bare), bare.sheets()
    responses = record(model, tokenizer, stimuli, progress=False)
    assert {site: entry.sheet for site, entry in responses.items()} == sheets
    site = next(iter(sheets))
    mixed = record(model, tokenizer, stimuli, [site, "transformer.h.0.mlp"], progress=False)
    assert mixed[site].sheet == sheets[site] != grid(12, site)
    assert mixed["transformer.h.0.mlp"].sheet == grid(12, "transformer.h.0.mlp")
    with pytest.raises(ValueError, match=r"^the layout puts the units of site '.*_sheet' elsewhere .*relayout="):
        record(model, tokenizer, stimuli, site, grid)
    anew = record(model, tokenizer, stimuli, site, grid, relayout=True, progress=False)
    assert anew[site].sheet == grid(12, site)
    np.testing.assert_array_equal(anew[site].values, mixed[site].values)


def test_sites_nobody_names_are_suggested_from_the_model_at_hand(model, stimuli, tokenizer):
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel carries no sheets .* sites='transformer\.h\.\*\.mlp'$"):
        record(model, tokenizer, stimuli)
    with pytest.raises(ValueError, match=r"sites='layers\.\*\.mlp'$"):
        record(llama()[0], tokenizer, stimuli)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrapped_models(model, stimuli, tokenizer, wrap):
    torch._dynamo.reset()
    expected = record(model, tokenizer, stimuli, SITE, progress=False)[SITE]
    responses = record(wrap(model), tokenizer, stimuli, SITE, progress=False)[SITE]
    np.testing.assert_allclose(responses.values, expected.values, atol=1e-5)
    assert responses.provenance["model"] == "GPT2LMHeadModel"


def test_bf16_models_are_pooled_in_float32(model, stimuli, tokenizer):
    model = model.to(torch.bfloat16)
    responses = record(model, tokenizer, stimuli, SITE, progress=False)[SITE]
    alone = one_by_one(model, SITE, [[BOS, *ids_of(item)] for item in ITEMS])
    np.testing.assert_allclose(responses.values, [output[1:].mean(0) for output in alone], rtol=0.02, atol=2e-3)
    assert responses.values.dtype == np.float32
    # a mean of several bf16 numbers that is itself rounded to bf16 would be one of them
    assert not np.array_equal(responses.values, torch.tensor(responses.values).bfloat16().float().numpy())
    assert responses.provenance["dtype"] == "bfloat16"


def test_provenance_and_stimuli_travel(model, stimuli, tokenizer, tmp_path):
    responses = record(model, tokenizer, stimuli, SITE, pooling="last", progress=False)[SITE]
    assert responses.stimuli == stimuli
    assert responses.site == SITE
    kept = {"model": "GPT2LMHeadModel", "tokenizer": type(tokenizer).__name__, "pooling": "last", "dtype": "float32"}
    assert kept.items() <= responses.provenance.items()
    assert responses.provenance["versions"]["torch"] == torch.__version__
    responses.save(tmp_path / "r.safetensors")
    assert type(responses).load(tmp_path / "r.safetensors").provenance == responses.provenance


def test_progress_bar(model, stimuli, tokenizer, capsys):
    record(model, tokenizer, stimuli, SITE, progress=False)
    assert capsys.readouterr().err == ""
    record(model, tokenizer, stimuli, SITE)
    assert f"{len(ITEMS)}/{len(ITEMS)}" in capsys.readouterr().err


class TestOtherThings:
    """What the annotations would refuse in this test run, users get in one line."""

    record = staticmethod(inspect.unwrap(record))

    def test_a_list_of_texts(self, model, tokenizer):
        message = r"^stimuli is a list of 1 str; expected a StimulusSet: StimulusSet\(name, items, conditions\), with"
        with pytest.raises(TypeError, match=message):
            self.record(model, tokenizer, ["a b"], SITE)

    def test_the_name_of_a_model(self, tokenizer, stimuli):
        message = r"^model is the string 'gpt2'; expected a Module: a loaded model, such as .*\('gpt2'\)$"
        with pytest.raises(TypeError, match=message):
            self.record("gpt2", tokenizer, stimuli, SITE)

    def test_the_name_of_a_tokenizer(self, model, stimuli):
        with pytest.raises(
            TypeError, match=r"^tokenizer is the string 'gpt2'; expected a Callable: a loaded tokenizer"
        ):
            self.record(model, "gpt2", stimuli, SITE)

    def test_things_in_another_order(self, model, tokenizer, stimuli):
        with pytest.raises(TypeError, match=r"^model is .*; expected a Module"):
            self.record(tokenizer, model, stimuli, SITE)


class TestBadInput:
    def test_pooling(self, model, stimuli, tokenizer):
        with pytest.raises(ValueError, match=r"pooling='max'; expected one of \['last', 'mean', 'sum'\]"):
            record(model, tokenizer, stimuli, SITE, pooling="max")

    def test_batch_size(self, model, stimuli, tokenizer):
        with pytest.raises(ValueError, match="batch_size=0; expected at least 1"):
            record(model, tokenizer, stimuli, SITE, batch_size=0)

    def test_item_without_tokens(self, model, tokenizer):
        stimuli = StimulusSet("odd", ["cat", "\u200b"], ["a", "b"])
        empty = make_tokenizer(bos_token="<s>")
        from tokenizers.normalizers import Replace

        empty.backend_tokenizer.normalizer = Replace("\u200b", "")
        with pytest.raises(ValueError, match=r"stimulus set 'odd': item 1 \('\\u200b'\) tokenises to nothing"):
            record(model, empty, stimuli, SITE)

    def test_item_longer_than_the_context(self, model, tokenizer):
        stimuli = StimulusSet("long", ["cat", "dog " * 16], ["a", "b"])
        with pytest.raises(ValueError, match=r"item 1 .* has 17 tokens; the model reads at most 16: shorten"):
            record(model, tokenizer, stimuli, SITE)
        assert record(model, tokenizer, stimuli, SITE, add_bos=False, progress=False)[SITE].n_tokens.tolist() == [1, 16]

    def test_item_longer_than_the_tokenizer_says(self, model, stimuli):
        short = make_tokenizer(model_max_length=8)
        with pytest.raises(ValueError, match=r"item 2 .* has 11 tokens; the model reads at most 8"):
            record(model, short, stimuli, SITE)

    def test_tokenizer_of_another_model(self, stimuli, tokenizer):
        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=12, vocab_size=10, n_positions=16))
        with pytest.raises(ValueError, match="token id 15; GPT2LMHeadModel embeds 10 ids: use the tokenizer"):
            record(model, tokenizer, stimuli, "transformer.h.0")

    def test_nan_names_site_and_item(self, model, stimuli, tokenizer):
        with torch.no_grad():
            model.transformer.wte.weight[WORDS.index("hears")] = float("nan")
        with pytest.raises(ValueError, match=r"site 'transformer\.h\.1\.attn' gives NaN .* item 4 \('the dog hears"):
            record(model, tokenizer, stimuli, SITE, progress=False)

    def test_site_that_is_no_sequence(self, model, stimuli, tokenizer):
        with pytest.raises(ValueError, match=r"wpe' gives shape \(1, 9, 12\); expected .* \(6, 9, units\)"):
            record(model, tokenizer, stimuli, "transformer.wpe", progress=False)

    def test_site_that_is_never_called(self, model, stimuli, tokenizer):
        model.transformer.spare = nn.Linear(2, 2)
        with pytest.raises(ValueError, match=r"'transformer\.spare' was not called"):
            record(model, tokenizer, stimuli, "transformer.spare", progress=False)

    def test_layout_of_another_width(self, model, stimuli, tokenizer):
        wrong = {SITE: grid(16, "wide")}
        with pytest.raises(ValueError, match=r"attn' has 12 units and its sheet 'wide' places 16"):
            record(model, tokenizer, stimuli, SITE, wrong, progress=False)
        with pytest.raises(ValueError, match="has 12 units; the given positions place 4"):
            record(model, tokenizer, stimuli, SITE, from_positions(grid(4).positions_mm), progress=False)
        with pytest.raises(ValueError, match="places 16; give it a layout of its width"):
            record(model, tokenizer, stimuli, SITE, lambda n, name: grid(16, name), progress=False)

    def test_layout_without_a_site(self, model, stimuli, tokenizer):
        sheets: dict[str, Sheet] = {"elsewhere": grid(12)}
        with pytest.raises(ValueError, match=r"no sheet for site 'transformer\.h\.1\.attn' .* it holds 'elsewhere'"):
            record(model, tokenizer, stimuli, SITE, sheets, progress=False)
