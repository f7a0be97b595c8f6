import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import Subset
from transformers import TrainerCallback

from topographic.objectives.objective import Objective
from topographic.objectives.terms import configured_objective
from topographic.training.config import RunConfig
from topographic.training.run import training_arguments
from topographic.training.text.data import prepare_tokens
from topographic.training.trainer import TopographicTrainer


class Spy(TrainerCallback):
    """Keeps the gradient that the optimiser gets and what was logged."""

    def __init__(self):
        self.gradients, self.logs = [], []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    def on_log(self, args, state, control, logs=None, **_):
        self.logs.append({"step": state.global_step, **logs})


class SpyingTrainer(TopographicTrainer):
    """Keeps what the model was shown."""

    shown: list

    def compute_loss(self, model, inputs, *args, **kwargs):
        if model.training:
            self.shown.append(inputs["input_ids"].clone())
        return super().compute_loss(model, inputs, *args, **kwargs)


@pytest.fixture
def build(tmp_path, run_config, tokenizer, small_gpt2):
    def build(model=None, *, weight=0.5, n_windows=None, callbacks=(), **training):
        settings = replace(run_config.training, **{"max_grad_norm": 0.0, **training})
        tokens = prepare_tokens(run_config.data, tokenizer)
        model = small_gpt2(tokenizer) if model is None else model
        spy = Spy()
        trainer = SpyingTrainer(
            model,
            training_arguments(settings, tmp_path, evaluates=True),
            objective=configured_objective(
                model, replace(run_config, training=settings, spatial=replace(run_config.spatial, weight=weight))
            ),
            train_dataset=Subset(tokens.train, range(n_windows or len(tokens.train))),
            eval_dataset=Subset(tokens.validation, range(10)),
            processor=tokenizer,
            callbacks=[spy, *callbacks],
        )
        trainer.spy, trainer.shown = spy, []
        return trainer

    return build


def plain_loop(model, batches, *, weight, config, spatial):
    """The same training, written out: torch's AdamW, the schedule in numbers, the mean over passes by hand."""
    objective = configured_objective(model, RunConfig(spatial=replace(spatial, weight=weight), training=config))
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    passes, gradients = config.gradient_accumulation_steps, []
    for step in range(config.max_steps):
        if step < config.warmup_steps:
            rate = config.learning_rate * (step + 1) / config.warmup_steps
        else:
            done = (step + 1 - config.warmup_steps) / (config.max_steps - config.warmup_steps)
            wave = (1 + torch.cos(torch.tensor(torch.pi * done, dtype=torch.float64)).item()) / 2
            rate = config.min_learning_rate + (config.learning_rate - config.min_learning_rate) * wave
        optimizer.zero_grad()
        for number in range(passes):
            ids = batches[step * passes + number]
            with objective.listen():
                task_loss = model(input_ids=ids, labels=ids).loss
            loss, _ = objective(task_loss, draw=step * passes + number)
            (loss / passes).backward()
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return gradients


@pytest.mark.parametrize(("weight", "clip"), [(0.5, 1.0), (0.0, 0.0)])
def test_it_trains_as_a_loop_written_out(build, run_config, tokenizer, small_gpt2, weight, clip):
    trainer = build(weight=weight, max_grad_norm=clip)
    trainer.train()
    config = replace(run_config.training, max_grad_norm=clip)
    model = small_gpt2(tokenizer)
    gradients = plain_loop(model, trainer.shown, weight=weight, config=config, spatial=run_config.spatial)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(trainer.spy.gradients[0][name], gradient, rtol=1e-5, atol=1e-7)
    for (name, ours), theirs in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)
    assert len(trainer.shown) == 12


def test_accumulation_leaves_the_task_gradient_alone(build):
    """Two passes of 4 windows against one of 8."""
    two = build(weight=0.0, max_steps=1)
    two.train()
    one = build(weight=0.0, max_steps=1, batch_size=8, gradient_accumulation_steps=1)
    one.train()
    assert torch.equal(torch.cat(two.shown), torch.cat(one.shown))
    for name, gradient in one.spy.gradients[0].items():
        torch.testing.assert_close(two.spy.gradients[0][name], gradient, rtol=1e-4, atol=1e-7)


def test_the_spatial_loss_enters_a_step_with_its_weight_whatever_the_accumulation(build):
    gradients = {}
    for passes in (1, 4):
        for weight in (0.0, 1.0, 3.0):
            trainer = build(weight=weight, max_steps=1, gradient_accumulation_steps=passes)
            trainer.train()
            gradients[passes, weight] = torch.cat([g.flatten() for g in trainer.spy.gradients[0].values()])
        added = gradients[passes, 1.0] - gradients[passes, 0.0]
        torch.testing.assert_close(gradients[passes, 3.0] - gradients[passes, 0.0], 3 * added, rtol=1e-3, atol=1e-5)
    # a mean over passes: of the same size as one pass, not four times as large
    ratio = (gradients[4, 1.0] - gradients[4, 0.0]).norm() / (gradients[1, 1.0] - gradients[1, 0.0]).norm()
    assert 0.5 < ratio < 1.5


def test_every_part_is_logged_by_itself(build):
    trainer = build(max_steps=4, logging_steps=2)
    seen, call = [], trainer.objective.__class__.__call__

    class Kept(Objective):
        def __call__(self, task_loss, *, draw, token_mask=None):
            loss, parts = call(self, task_loss, draw=draw, token_mask=token_mask)
            if task_loss.requires_grad:
                seen.append((draw, {"loss": loss.detach(), **parts}))
            return loss, parts

    trainer.objective.__class__ = Kept
    trainer.train()
    assert [draw for draw, _ in seen] == list(range(8))
    logged = [entry for entry in trainer.spy.logs if "loss" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    sites = [f"spatial/transformer.h.{block}.{part}" for block in (0, 1) for part in ("attn", "mlp")]
    for entry, passes in zip(logged, (seen[:4], seen[4:]), strict=True):
        assert set(entry) >= {"loss", "task_loss", "spatial_loss", *sites, "learning_rate", "grad_norm"}
        for name in ("loss", "task_loss", "spatial_loss", *sites):
            assert entry[name] == pytest.approx(sum(parts[name].item() for _, parts in passes) / 4, rel=1e-5)
        assert entry["spatial_loss"] == pytest.approx(0.5 * sum(entry[site] for site in sites), rel=1e-5)
        assert entry["loss"] == pytest.approx(entry["task_loss"] + entry["spatial_loss"], rel=1e-5)
    assert json.dumps(logged)


def test_the_control_logs_its_task_loss_only(build):
    trainer = build(weight=0.0, max_steps=2)
    trainer.train()
    logged = next(entry for entry in trainer.spy.logs if "loss" in entry)
    assert logged["loss"] == logged["task_loss"]
    assert not [name for name in logged if "spatial" in name]


def test_evaluation_reports_the_task_loss_of_every_window(build):
    losses = {}
    for weight in (0.0, 2.0):
        trainer = build(weight=weight)
        losses[weight] = trainer.evaluate()
        again = trainer.evaluate()
        assert again["eval_loss"] == losses[weight]["eval_loss"]
        if weight:
            assert again["eval_spatial_loss"] == losses[weight]["eval_spatial_loss"]  # the same neighbourhoods
    model, windows = trainer.model.eval(), [window["input_ids"] for window in trainer.eval_dataset]
    with torch.no_grad():
        each = [model(input_ids=ids[None], labels=ids[None]).loss.item() for ids in windows]
    assert len(each) == 10  # two batches of four and one of two: each window counts alike
    assert losses[0.0]["eval_loss"] == losses[2.0]["eval_loss"] == pytest.approx(sum(each) / 10, rel=1e-5)
    assert 0 < losses[2.0]["eval_spatial_loss"] < 2.0 * 4
    assert "eval_spatial_loss" not in losses[0.0]


def test_windows_come_in_an_order_that_the_seed_decides(build):
    orders = []
    for seed in (1, 1, 2):
        trainer = build(weight=0.0, max_steps=6, n_windows=24, seed=seed)
        trainer.train()
        assert len(trainer.shown) == 12  # two epochs of three steps of two passes of four windows
        orders.append(torch.cat(trainer.shown))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    windows = {tuple(window["input_ids"].tolist()) for window in trainer.train_dataset}
    for order in orders:
        epochs = [[tuple(row) for row in part.tolist()] for part in order.chunk(2)]
        assert epochs[0] != epochs[1]
        assert set(epochs[0]) == set(epochs[1]) == windows
        assert all(len(set(epoch)) == 24 for epoch in epochs)


def test_weight_decay_and_schedule(build, run_config):
    trainer = build(max_steps=6, logging_steps=1)
    trainer.train()
    decayed, others = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert any(p is trainer.model.transformer.wte.weight for p in decayed["params"])
    rates = [entry["learning_rate"] for entry in trainer.spy.logs if "loss" in entry]
    assert rates[:2] == pytest.approx([5e-3, 1e-2])
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(1e-3)


def test_decay_goes_by_axes_not_by_names(build):
    model = nn.Module()
    model.norm_table, model.bias_table = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2, 2, 2))
    model.gain = nn.Parameter(torch.zeros(4))
    assert build(weight=0.0).get_decay_parameter_names(model) == ["norm_table", "bias_table"]


class Break(TrainerCallback):
    """Damages a weight after a step, as an overflow would."""

    def __init__(self, step, site):
        self.step, self.site = step, site

    def on_step_end(self, args, state, control, model=None, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                next(model.get_submodule(self.site).parameters())[0, 0] = float("nan")


def test_nan_stops_the_run_and_names_the_site(build, tmp_path):
    trainer = build(max_steps=20, logging_steps=5, save_steps=3, callbacks=[Break(7, "transformer.h.1.mlp")])
    message = "activations at site 'transformer.h.1.mlp' were NaN or infinite at step 8"
    with pytest.raises(FloatingPointError, match=message) as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    assert trainer.state.global_step in (9, 10)
    # the checkpoint that was due at step 9 would have held the damage
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-3", "checkpoint-6"]


def test_a_checkpoint_of_broken_parameters_is_refused(build, tmp_path):
    trainer = build(
        weight=0.0, max_steps=4, logging_steps=50, save_steps=2, callbacks=[Break(2, "transformer.h.0.mlp")]
    )
    with pytest.raises(FloatingPointError, match="parameters were NaN or infinite after step 2"):
        trainer.train()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_the_cache_is_off_in_training_and_on_in_what_is_saved(build, tmp_path, tokenizer, small_gpt2):
    model = small_gpt2(tokenizer)
    assert model.config.use_cache is True
    trainer = build(model, max_steps=1)
    assert model.config.use_cache is False
    trainer.save_for_use(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["use_cache"] is True
    assert model.config.use_cache is False


class Bare(nn.Module):
    """A language model that transformers knows nothing about, with tied embeddings."""

    def __init__(self, n_entries):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(n_entries, 16)
        self.block = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(16, n_entries, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, input_ids, labels=None):
        logits = self.head(self.block(self.embed(input_ids)))
        if labels is None:
            return {"logits": logits}
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


def test_any_module_trains_saves_and_resumes(build, tmp_path, tokenizer, monkeypatch, run_config):
    run_config.spatial.sites = ["block"]
    whole = build(Bare(len(tokenizer)), max_steps=6, save_steps=4)
    whole.train()
    resumed = build(Bare(len(tokenizer)), max_steps=6, save_steps=4)
    resumed.train_from(tmp_path / "checkpoints" / "checkpoint-4")
    assert len(resumed.shown) == 4
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    taken_up = build(Bare(len(tokenizer)))
    taken_up.train_from(tmp_path / "checkpoints" / "checkpoint-6", already_done=True)
    assert taken_up.state.global_step == 6
    assert torch.equal(taken_up.model.head.weight, whole.model.head.weight)


@pytest.mark.parametrize("step", [2, 3, 6])
def test_resuming_within_and_at_the_border_of_an_epoch(build, tmp_path, tokenizer, small_gpt2, step):
    """Three steps make an epoch; dropout and the order of the windows must go on as if nothing had happened."""
    words = {"max_steps": 8, "save_steps": 1, "keep_checkpoints": None, "n_windows": 24}
    whole = build(small_gpt2(tokenizer, dropout=0.3), **words)
    whole.train()
    resumed = build(small_gpt2(tokenizer, dropout=0.3, seed=1), **words)
    resumed.train_from(tmp_path / "checkpoints" / f"checkpoint-{step}")
    assert torch.equal(torch.cat(resumed.shown), torch.cat(whole.shown[2 * step :]))
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_model_is_refused(build, tmp_path, tokenizer, small_gpt2):
    build(max_steps=4, save_steps=4).train()
    for other in (small_gpt2(tokenizer, n_embd=36), Bare(len(tokenizer))):
        trainer = build(other, weight=0.0, max_steps=4)
        with pytest.raises(ValueError, match="checkpoint-4 does not fit this model"):
            trainer.train_from(tmp_path / "checkpoints" / "checkpoint-4")


def test_a_failed_save_leaves_no_folder(build, tmp_path, monkeypatch):
    trainer = build(max_steps=4, save_steps=2)
    real = trainer._save_process

    def full(folder):
        if trainer.state.global_step == 4:
            raise OSError(28, "No space left on device")
        real(folder)

    monkeypatch.setattr(trainer, "_save_process", full)
    with pytest.raises(OSError, match=r"could not write .*checkpoint-4: .*No space left.*; free disk space"):
        trainer.train()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]


def test_older_checkpoints_are_deleted(build, tmp_path):
    build(max_steps=5, save_steps=1, keep_checkpoints=2, logging_steps=9).train()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-5"]


def test_bf16_keeps_the_spatial_loss_in_float32(build):
    trainer = build(max_steps=2, bf16=True)
    trainer.train()
    logged = next(entry for entry in trainer.spy.logs if "loss" in entry)
    assert logged["spatial/transformer.h.0.attn"] != pytest.approx(
        torch.tensor(logged["spatial/transformer.h.0.attn"]).bfloat16().item(), rel=1e-7
    )
    assert trainer.model.transformer.wte.weight.dtype == torch.float32


def test_a_compiled_model_is_heard_alike(build, monkeypatch):
    import topographic.training.run as run

    plain = build(max_steps=3, logging_steps=1)
    plain.train()
    torch._dynamo.reset()  # whatever earlier tests compiled
    real = run.TrainingArguments
    monkeypatch.setattr(run, "TrainingArguments", lambda **words: real(**words, torch_compile_backend="eager"))
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = build(max_steps=3, logging_steps=1, compile=True)
        compiled.train()
    assert type(compiled.model_wrapped).__name__ == "OptimizedModule"
    for ours, theirs in zip(plain.spy.logs[:3], compiled.spy.logs[:3], strict=True):
        for name in ("task_loss", "spatial/transformer.h.1.mlp", "spatial_loss"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4)


def test_nothing_is_printed(build, capsys):
    build(max_steps=2).train()
    assert capsys.readouterr().out == ""
