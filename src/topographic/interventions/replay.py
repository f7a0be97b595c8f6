"""What lies before an edit is computed once per input, and said again as long as nothing about it changes."""

import contextlib
import hashlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from topographic.losses.wrappers import WRAPPER_NAMES, unwrapped
from topographic.recording import find_sites
from topographic.recording.hooks import changes_of, wrap_forward

__all__ = ["replayed"]

# what is kept at most: some 230 000 tokens of 576 numbers in float32, more than a suite reads, and not more memory than
# a small language model takes itself; inputs beyond that are computed as usual
_MOST_BYTES = 512 * 2**20

# The functions marked no_type_check run inside the model, where they would be looked at in every call.


@contextlib.contextmanager
def replayed(model: nn.Module, sites: str | Sequence[str]) -> Iterator[None]:
    """Run the blocks before the earliest of some sites once per input while the block runs, and repeat what they said.

    For edits of these sites that are measured on the same texts again and again (`lesion_effects`, `steering_curve`):
    ``h_k = b_{k-1}(... b_0(h_0))`` is kept under a digest of ``h_0`` and all other arguments, and given to block k
    when they come again. Outputs are equal to the last bit.

    Parameters
    ----------
    model : nn.Module
        Any model whose blocks lie in an ``nn.ModuleList``.
    sites : str or sequence of str
        All that will be changed while the block runs, as `find_sites` takes them.

    Yields
    ------
    None
        The model is changed until the block ends, also by an exception.

    Raises
    ------
    ValueError
        If a site does not exist.
    RuntimeError
        If the model, given what it was given before, calls its blocks in another way.

    Notes
    -----
    The model runs as usual where that might not be exact: with gradients, in training or inference mode, where keys and
    values are cached, random numbers are drawn, somebody listens to or edits what lies before the sites (the adaptors
    of `rebased` apart), weights have changed, blocks do more than hand one tensor on, what they say is used elsewhere
    too, the model is wrapped or compiled, or 512 MiB are kept already. Of a module's own doing only tensors are
    watched: one that counts its calls counts fewer.

    Examples
    --------
    >>> from topographic.models import TopoLMConfig, TopoLMForCausalLM
    >>> model = TopoLMForCausalLM(TopoLMConfig(vocab_size=9, n_embd=16, n_head=2, n_layer=2)).eval()
    >>> with torch.no_grad(), replayed(model, "transformer.h.1"):
    ...     first, second = (model(torch.tensor([[1, 2, 3]]), use_cache=False).logits for _ in range(2))
    >>> torch.equal(first, second)
    True
    """
    found = _place(model, find_sites(model, sites))
    with contextlib.ExitStack() as stack:
        if found is not None:
            replay = _Replay(*found)
            for undo in replay.put_in_place():
                stack.callback(undo)
        yield


def _place(model: nn.Module, sites: Sequence[str]) -> tuple[nn.Module, list[nn.Module], int] | None:
    """Whose blocks they are, the blocks, and how many come before the first site; None if nothing can be replayed."""
    named = dict(unwrapped(model).named_modules())
    if unwrapped(model) is not model or any(WRAPPER_NAMES.intersection(name.split(".")) for name in named):
        return None
    for name, module in named.items():  # the outermost list first
        if isinstance(module, nn.ModuleList) and all(site.startswith(f"{name}.") for site in sites):
            first = min(int(site[len(name) + 1 :].partition(".")[0]) for site in sites)
            owner = name.rpartition(".")[0]
            while isinstance(named[owner], nn.ModuleList | nn.ModuleDict) and owner:  # which are never called
                owner = owner.rpartition(".")[0]
            if first:
                return named[owner], list(module), first
    return None


@dataclass(frozen=True)
class _Kept:
    """What enters block k, and in which form each block before it answers: None alone, otherwise a tuple so long."""

    tensor: Tensor
    forms: tuple[int | None, ...]


@dataclass
class _Pass:
    """A pass through the blocks: one that repeats what was kept, or one that is watched to be kept."""

    key: bytes
    kept: _Kept | None
    random: list[Tensor]
    said: list[weakref.ref[Tensor]] = field(default_factory=list)
    forms: list[int | None] = field(default_factory=list)
    handed: Tensor | None = None
    step: int = 0


class _Replay:
    """The blocks of one model before block ``k``, and what they said.

    All that can change what they say is looked at whenever a pass begins (`_state`), and all they are given is in the
    key (`_key`). A pass is kept if each block heard the very tensor that the one before it said, and nobody else holds
    that when block ``k`` is reached: then the tensors between them are of no more use.
    """

    def __init__(self, owner: nn.Module, blocks: list[nn.Module], k: int) -> None:
        self.owner, self.blocks, self.k = owner, blocks[: k + 1], k
        self.modules = _modules_outside(owner, set(blocks[k:]))
        # an edit keeps these from computing in one kernel, which may round in another way
        self.fuses = any(isinstance(one, _FUSING) for one in self.modules)
        self.config: Any = getattr(owner, "config", None)
        self.given: tuple[Any, ...] | None = None
        self.running: _Pass | None = None
        self.kept: dict[bytes, _Kept] = {}
        self.n_bytes = 0
        self.forwards: dict[nn.Module, Any] = {}
        self.before: tuple[list[Any], list[int]] | None = None

    def put_in_place(self) -> Iterator[Any]:
        """Wrap the model and its blocks; what undoes each."""
        known = all(
            (changes := changes_of(module)) is not None and all(hasattr(one, "of_output_alone") for one in changes)
            for module in self.modules
        )
        repeated = len(set(self.blocks)) < len(self.blocks) or self.owner in self.blocks
        if not known or repeated or any(isinstance(one, torch.jit.ScriptModule) for one in self.modules):
            return
        yield wrap_forward(self.owner, self._around_owner)
        for index, block in enumerate(self.blocks):
            yield wrap_forward(block, partial(self._around_block, index))
        self.forwards = {module: vars(module).get("forward") for module in self.modules}
        self.before = self._state(modes=False)

    @no_type_check
    def _around_owner(self, module, forward, *args, **kwargs):
        if module is not self.owner:  # a copy of it
            return forward(module, *args, **kwargs)
        outer = self.given, self.running
        self.given, self.running = (args, kwargs), None
        try:
            return forward(module, *args, **kwargs)
        finally:
            self.given, self.running = outer

    @no_type_check
    def _around_block(self, index, module, forward, *args, **kwargs):
        if module is not self.blocks[index]:  # a copy of it
            return forward(module, *args, **kwargs)
        if not index:
            self.running = self._begun(args, kwargs)
        running = self.running
        if running is None:
            return forward(module, *args, **kwargs)
        if running.kept is not None and index < self.k:
            return self._repeated(running, index, args, kwargs)
        if index < self.k:
            return self._watched(running, index, partial(forward, module), args, kwargs)
        self.running = None
        if running.kept is None:
            self._keep(running, args, kwargs)
        else:
            self._check(running, index, args, kwargs)
        return forward(module, *args, **kwargs)

    @no_type_check
    def _begun(self, args, kwargs):
        """A new pass, if it is one that can be repeated."""
        if (
            self.given is None
            or self.before is None
            or torch.is_grad_enabled()
            or torch.is_inference_mode_enabled()
            or torch.compiler.is_compiling()
            or kwargs.get("use_cache")
            or self._state() is None
        ):
            return None
        key = self._key(args, kwargs)
        kept = self.kept.get(key)
        if key is None or (kept is None and self.n_bytes >= _MOST_BYTES):
            return None
        return _Pass(key, kept, _random_states() if kept is None else [])

    @no_type_check
    def _watched(self, running, index, forward, args, kwargs):
        """What a block says, noted."""
        self.running = None  # until it is known to have done nothing else
        tensors = [one for one in _leaves((args, kwargs)) if isinstance(one, Tensor)]
        if any(map(_is_odd, tensors)) or not self._in_turn(running, index, _stream(args, kwargs)):
            return forward(*args, **kwargs)
        versions = [one._version for one in tensors]
        output = forward(*args, **kwargs)
        several = isinstance(output, tuple)
        said = output[0] if several and output else output
        if (
            [one._version for one in tensors] == versions
            and isinstance(said, Tensor)
            and not _is_odd(said)
            and not (several and any(one is not None for one in output[1:]))
            and type(output) in (Tensor, tuple)
        ):
            running.said.append(weakref.ref(said))
            running.forms.append(len(output) if several else None)
            running.step += 1
            self.running = running
        return output

    @no_type_check
    def _in_turn(self, running, index, heard):
        return heard is not None and running.step == index and (not index or running.said[-1]() is heard)

    @no_type_check
    def _keep(self, running, args, kwargs):
        """Keep what enters block k, if this is all that comes of the blocks before it."""
        heard = _stream(args, kwargs)
        if (
            self._in_turn(running, self.k, heard)
            and not any(one() is not None for one in running.said[:-1])
            and heard.is_contiguous()
            and all(map(torch.equal, running.random, _random_states()))
            and self.n_bytes + heard.nbytes <= _MOST_BYTES
        ):
            # a clone, here and below, because block k may write into what it is given
            self.kept[running.key] = _Kept(heard.detach().clone(), tuple(running.forms))
            self.n_bytes += heard.nbytes

    @no_type_check
    def _repeated(self, running, index, args, kwargs):
        """What comes out of block k - 1, of block 0 at once; the others hand it on."""
        if index:
            self._check(running, index, args, kwargs)
        else:
            running.handed = running.kept.tensor.clone()
        running.step += 1
        length = running.kept.forms[index]
        return running.handed if length is None else (running.handed, *[None] * (length - 1))

    @no_type_check
    def _check(self, running, index, args, kwargs):
        if running.step != index or _stream(args, kwargs) is not running.handed:
            raise RuntimeError(
                f"{type(self.owner).__name__} called its blocks in another way than before, given the same; expected "
                "that it calls each in turn with what the one before it gave: change nothing but the named sites"
            )

    @no_type_check
    def _state(self, *, modes=True):
        """All that decides what the blocks say beside their input; None where it is not, or no more, as it was."""
        objects, tensors = [], []
        for module in self.modules:
            own = vars(module)
            if (
                (modes and module.training)
                or own["_forward_pre_hooks"]
                or not all(map(_is_idle, own["_forward_hooks"].values()))
                or own.get("forward") is not self.forwards[module]
                or getattr(module, "_compiled_call_impl", None) is not None
            ):
                return None
            objects.extend(own["_modules"].values())
            tensors.extend(own["_parameters"].values())
            tensors.extend(own["_buffers"].values())
        if nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks:
            return None
        tensors = [one for one in tensors if one is not None]
        if any(one.is_inference() for one in tensors):
            return None
        found = objects + tensors, [one._version for one in tensors]
        if self.before is None:
            return found
        same = len(found[0]) == len(self.before[0]) and all(map(_is, found[0], self.before[0]))
        return found if same and found[1] == self.before[1] else None

    @no_type_check
    def _key(self, args, kwargs):
        """A digest of all that the model and its first block are given, and of how torch computes; None if it has none.

        What the model is given decides what the later blocks hear beside the stream, such as masks of their own.
        """
        digest = hashlib.blake2b(digest_size=32)
        heard = _stream(args, kwargs)
        if heard is None or heard.device.type not in ("cpu", "cuda"):
            return None
        how = (
            torch.is_autocast_enabled(heard.device.type),
            torch.get_autocast_dtype(heard.device.type),
            self.fuses and torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
            # attention, and what is asked for beside the output
            None if self.config is None else repr(vars(self.config)),
        )
        digest.update(repr(how).encode())
        for leaf in _leaves((self.given, args, kwargs)):
            if isinstance(leaf, Tensor):
                if _is_odd(leaf):
                    return None
                digest.update(repr((leaf.dtype, leaf.shape, leaf.stride(), leaf.device)).encode())
                digest.update(leaf.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
            elif leaf is None or isinstance(leaf, _FLAGS):
                digest.update(repr((type(leaf), leaf)).encode())
            else:  # such as a cache of keys and values
                return None
        return digest.digest()


def _modules_outside(owner: nn.Module, late: set[nn.Module]) -> list[nn.Module]:
    """Every module of a model that is reached without passing one of the late ones."""
    found: dict[nn.Module, None] = {}
    waiting = [owner]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in late:
            found[module] = None
            waiting += module.children()
    return list(found)


@no_type_check
def _leaves(given):
    """Entries of nested tuples, lists and dicts, between marks that tell how they are nested."""
    if type(given) in (tuple, list):
        yield f"{type(given).__name__} of {len(given)}"
        for one in given:
            yield from _leaves(one)
    elif type(given) is dict:
        yield f"dict of {len(given)}"
        for key, one in given.items():
            yield key
            yield from _leaves(one)
    else:
        yield given


@no_type_check
def _stream(args, kwargs):
    """The tensor that goes from block to block, which is the first thing a block is given."""
    stream = args[0] if args else kwargs.get("hidden_states")
    return stream if isinstance(stream, Tensor) else None


@no_type_check
def _is_odd(tensor):
    """Whether a tensor is more, or less, than numbers in memory whose changes torch counts."""
    kind = type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided
    return kind or tensor.is_inference() or tensor.is_conj() or tensor.is_neg()


@no_type_check
def _is_idle(hook):
    """Whether a hook is one that transformers leaves behind for outputs that were once asked for, and now are not."""
    if getattr(hook, "__module__", None) != "transformers.utils.output_capturing":
        return False
    collector = getattr(hook, "__globals__", {}).get("_active_collector")
    return collector is not None and not collector.get()


@no_type_check
def _is(one, other):
    return one is other


def _random_states() -> list[Tensor]:
    """Where the generators of torch stand: a block that draws from them moves them."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


_FUSING = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)
_FLAGS = (bool, int, float, str, torch.dtype, torch.device)
