"""Task loss plus weighted terms, for any model and any training loop.

With a loop of your own, this is all you need::

    term = SpatialCorrelation("transformer.h.*.attn", layout=permuted_grid, weight=2.5, radius=5)
    objective = Objective(model, [term])
    for step, batch in enumerate(batches):
        with objective.listen():
            task_loss = model(**batch).loss
        loss, parts = objective(task_loss, token_mask=batch.get("attention_mask"))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            check_finite(parts)
            log({name: value.item() for name, value in parts.items()})

The model may be compiled, wrapped in DistributedDataParallel or sharded by ``fully_shard`` before or after the
objective is made. With gradient accumulation, say so (``Objective(..., accumulation=4)``) and divide ``loss`` by the
number of passes before ``backward()``, as always. The objective counts the forward passes itself; a resumed training
tells it where it is, ``draw=passes_so_far`` in the first call, and has the losses of one that was never interrupted.
Gradient checkpointing must be off, since a checkpointed module's output carries no gradient. Another term is any
object that fits `Term`; `weight_terms` has one on weights.
"""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from topographic.losses import spatial_correlation_loss
from topographic.losses.wrappers import unwrapped
from topographic.objectives.config import Neighborhoods, Norm, SpatialConfig, is_weight, spatial_expectations
from topographic.recording.hooks import tap
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.unit_axis import units_are_last
from topographic.sheets import NEIGHBORHOODS, Layout, Sheet, sample_neighborhoods
from topographic.sheets.expectations import expect_whole

__all__ = ["Draw", "Objective", "SpatialCorrelation", "Term"]


class Draw(NamedTuple):
    """What the random choices of one forward pass are made from, beside a seed."""

    number: int
    """The forward pass, counted over the whole training."""
    rank: int = 0
    """The process, in distributed training."""


@runtime_checkable
class Term(Protocol):
    """Something added to the task loss.

    Attributes
    ----------
    name : str
        Name in the log: "spatial" gives ``spatial_loss`` and ``spatial/<site>``.
    weight : float or callable
        Factor of `total`, or a function of the optimiser step (a schedule).
    per_step : bool
        True for a term that depends on the weights alone, which one forward pass changes nothing about.
    watches : bool, optional
        True for a term that has something to log though its weight is 0.
    """

    name: str
    weight: float | Callable[[int], float]
    per_step: bool

    def taps(self, model: nn.Module) -> list[str]:
        """Names of the modules whose activations the term needs; none for a term on weights."""
        ...

    def losses(
        self, model: nn.Module, activations: Mapping[str, Tensor], draw: Draw, token_mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Loss of every site; what `total` makes of them joins the task loss, times ``weight``.

        ``model`` is the bare model, ``activations`` has the outputs (..., units) of the sites in this forward pass,
        random choices are made from ``draw``, and ``token_mask`` (...) is 0 for samples that must not count. Losses
        have the same names each time.
        """
        ...

    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """What ``weight`` multiplies, made of what `losses` returned: their sum, their mean, or some of them."""
        ...


class Objective:
    """Task loss plus weighted terms: ``L = L_task + sum_t weight_t total_t(losses of its sites)``.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.
    terms : Term or sequence of Term
        What is added. A term whose weight is the number 0 is left out altogether, unless it ``watches``.
    accumulation : int
        Forward passes per optimiser step. Terms with ``per_step`` are computed in the first of them, times this
        number, since the mean over passes divides by it. The first call is taken for the first pass of a step,
        whatever its number.

    Raises
    ------
    ValueError
        If names repeat, a weight is negative or no finite number, a term's sites match nothing, or parameters that are
        trained are kept in half precision.
    TypeError
        If one of the terms is none, or the model is not loaded.

    Notes
    -----
    Parameters stay in float32, and autocast may compute in half precision. Float16 parameters are NaN after Adam's
    first step; of bfloat16 ones a step below 1/512 of a weight rounds to nothing, which at the learning rates of
    fine-tuning are most. Frozen parameters may have any precision, as under adapters.
    """

    def __init__(self, model: nn.Module, terms: Term | Sequence[Term], *, accumulation: int = 1) -> None:
        terms = _listed(terms)
        names = [term.name for term in terms]
        if len(set(names)) < len(names) or "task" in names:
            raise ValueError(f"terms are named {names}; expected different names, none of them 'task': pass name=")
        expect_whole("accumulation", accumulation, 1)
        self._model = unwrapped(model)
        _refuse_half(self._model)
        self.terms = [term for term in terms if _counts(term)]
        self.accumulation = accumulation
        self.sites = {term.name: term.taps(model) for term in self.terms}
        self._heard: Mapping[str, Tensor] = {}
        self._latest: dict[str, dict[str, Tensor]] = {}
        self._next = 0
        self._first: int | None = None

    @contextlib.contextmanager
    def listen(self, model: nn.Module | None = None) -> Iterator[None]:
        """Hear what the terms need while the block runs the model's forward pass.

        Parameters
        ----------
        model : nn.Module, optional
            The model that runs, if it is not the one the objective was made for but has the same sites.

        Yields
        ------
        None
            Nothing; the activations wait for the next call of the objective. The model is restored on leaving.
        """
        sites = sorted({site for sites in self.sites.values() for site in sites})
        self._heard = {}
        with tap(self._model if model is None else model, sites) if sites else contextlib.nullcontext({}) as heard:
            yield
        self._heard = heard

    def __call__(
        self,
        task_loss: Float[Tensor, ""],
        *,
        draw: int | None = None,
        step: int | None = None,
        token_mask: Tensor | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Add the terms to the loss of the forward pass that was just run, and heard if a term needs activations.

        Parameters
        ----------
        task_loss : Tensor, shape ()
            What the model is trained for.
        draw : int, optional
            Number of this forward pass, counted over the whole training; it decides what is drawn at random. By
            default the one after the latest, from 0; calls under `torch.no_grad` are not counted. Pass it when
            resuming, in the first call at least, and where steps have fewer passes than ``accumulation``.
        step : int, optional
            Optimiser step that weights with a schedule go by; by default the calls' numbers say which it is.
        token_mask : Tensor of bool or int, shape (batch, tokens), optional
            0 for tokens that must not count, such as padding.

        Returns
        -------
        loss : Tensor, shape ()
            What to call ``backward()`` on.
        parts : dict of str to Tensor, shape ()
            ``task_loss``; for each term ``<name>/<site>``, unweighted, and ``<name>_loss``, their weighted sum; all
            detached and on the device, so that nothing waits unless they are read. Always the same names.

        Raises
        ------
        RuntimeError
            If a site was not heard.
        ValueError
            If a site's activations carry no gradient though the task loss does, or do not fit its sheet.
        """
        heard, self._heard = self._heard, {}
        draw = self._next if draw is None else draw
        if torch.is_grad_enabled():
            self._next, self._first = draw + 1, draw % self.accumulation if self._first is None else self._first
        own_step, place = divmod(draw - (self._first or 0), self.accumulation)
        step = max(own_step, 0) if step is None else step
        loss, parts = task_loss, {"task_loss": task_loss.detach()}
        for term in self.terms:
            if term.per_step and place and term.name in self._latest:
                parts |= self._latest[term.name]
                continue
            weight = _checked_weight(term, term.weight(step) if callable(term.weight) else term.weight)
            activations = {site: _heard_at(site, heard, task_loss) for site in self.sites[term.name]}
            losses = term.losses(self._model, activations, Draw(draw, _rank()), token_mask)
            losses = {site: each.to(task_loss.device) for site, each in losses.items()}
            added = weight * term.total(losses)
            loss = loss + (added * self.accumulation if term.per_step else added)
            latest = {f"{term.name}/{site}": each.detach() for site, each in losses.items()}
            self._latest[term.name] = {**latest, f"{term.name}_loss": added.detach()}
            parts |= self._latest[term.name]
        return loss, parts


@dataclass
class SpatialCorrelation:
    """Spatial correlation loss of activations (`spatial_correlation_loss`), on neighbourhoods drawn anew each pass.

    Parameters
    ----------
    sites : str or sequence of str, optional
        Site names or wildcards; by default all sites that ``layout`` maps or, without one, those of the sheets that
        the model carries.
    layout, relayout
        As in `record`: by default the sheets that the model carries, and `grid` elsewhere. A layout that says
        otherwise than the model itself is refused unless ``relayout`` says that it is meant.
    weight : float or callable
        Weight of every sheet's loss, or a function of the optimiser step.
    neighborhoods : {"local", "scattered", "global"} or callable
        Which groups of units are looked at, or a function of the sheet that returns them, shape
        (neighborhoods, units_per_neighborhood).
    radius : int
        Radius of local neighbourhoods, in lattice steps.
    k : int
        Units per scattered neighbourhood.
    n_neighborhoods : int
        How many are drawn for each site in each forward pass; a global neighbourhood is the only one of its sheet.
    norm : {"l1", "l2", "linf"}
        Distance on the sheet.
    seed : int
        Draws depend on it, on the number of the forward pass, the process and the site, and on nothing else.
    name : str
        Name in the log.

    Notes
    -----
    Activations have units on their last axis; the others are samples. Feature maps, which have channels on the second,
    are refused where the layers of the model tell (`units_are_last`). Sites alike in size, dtype and device are
    computed in one call. The published code draws neighbourhoods from a global generator, so that a resumed run
    draws others than an uninterrupted one.
    """

    sites: str | Sequence[str] | None = SpatialConfig.sites
    _: KW_ONLY
    layout: AnyLayout = None
    relayout: bool = False
    weight: float | Callable[[int], float] = SpatialConfig.weight
    neighborhoods: Neighborhoods | Callable[[Sheet], Tensor] = SpatialConfig.neighborhoods
    radius: int = SpatialConfig.radius
    k: int = SpatialConfig.k
    n_neighborhoods: int = SpatialConfig.n_neighborhoods
    norm: Norm = SpatialConfig.norm
    seed: int = 0
    name: str = "spatial"
    per_step: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse what no sheet can satisfy."""
        if self.sites is None and callable(self.layout):
            raise ValueError("sites is missing; name some, or give layout as a mapping of site to sheet")
        for holds, name, expected in spatial_expectations(self):
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected {expected}")
        self._settled: Layout | None = None
        self._places: dict[str, tuple[Sheet, Tensor]] = {}
        self._positions: dict[tuple[tuple[str, ...], torch.device, torch.dtype], Tensor] = {}

    def taps(self, model: nn.Module) -> list[str]:
        """Sites of the model that get a sheet, as `Term.taps`; a ValueError if a layout does not fit."""
        mapped = list(self.layout) if isinstance(self.layout, Mapping) else None
        sites = chosen_sites(model, mapped if self.sites is None else self.sites)
        self._settled = settled_layout(model, sites, self.layout, relayout=self.relayout)
        # another model may carry other sheets
        self._places.clear()
        self._positions.clear()
        return sites

    def losses(
        self, model: nn.Module, activations: Mapping[str, Tensor], draw: Draw, token_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Spatial loss of every site, mean over its neighbourhoods, as `Term.losses`."""
        if self._settled is None:
            self.taps(model)
        alike: dict[tuple, list[str]] = defaultdict(list)
        for site, heard in activations.items():
            if token_mask is not None and heard.shape[:-1] != token_mask.shape:
                raise ValueError(
                    f"token_mask has shape {tuple(token_mask.shape)}; activations at site {site!r} have shape "
                    f"{tuple(heard.shape)}: pass one entry for each token"
                )
            if site not in self._places and not units_are_last(model, site, heard):
                raise ValueError(
                    f"site {site!r} gives feature maps of shape {tuple(heard.shape)}; the spatial loss needs units on "
                    "the last axis, as of Linear layers or tokens: name other sites, or make weights smooth instead"
                )
            sheet, members = self._place(site, heard.shape[-1])
            kind = (heard.dtype, heard.device, heard.shape.numel(), members.shape[1])
            alike[(*kind, sheet.positions_mm.shape, sheet.period_mm)].append(site)
        found: dict[str, Tensor] = {}
        for sites in alike.values():
            losses = spatial_correlation_loss(
                [activations[site].flatten(0, -2) for site in sites],
                self._positions_of(sites, activations[sites[0]]),
                torch.stack([self._drawn(site, draw) for site in sites]),
                norm=self.norm,
                period_mm=self._places[sites[0]][0].period_mm,
                reduction="none",
                sample_mask=None if token_mask is None else token_mask.flatten().bool(),
            )
            found |= dict(zip(sites, losses.mean(-1).unbind(), strict=True))
        return {site: found[site] for site in activations}

    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Sum over sites (TopoLM, section 3), as `Term.total`."""
        return torch.stack(list(losses.values())).sum()

    def _place(self, site: str, n_units: int) -> tuple[Sheet, Tensor]:
        """Sheet of a site and all its neighbourhoods, made when the site is first heard and its width known."""
        if site not in self._places and self._settled is not None:
            sheet = self._settled(n_units, site)
            if callable(self.neighborhoods):
                members = self.neighborhoods(sheet)
            else:
                generator = _generator(self.seed, "neighborhoods", site)
                options = {"local": {"radius": self.radius}, "scattered": {"k": self.k, "generator": generator}}
                members = NEIGHBORHOODS[self.neighborhoods](sheet, **options.get(self.neighborhoods, {}))
            self._places[site] = sheet, members
        return self._places[site]

    def _drawn(self, site: str, draw: Draw) -> Int64[Tensor, "drawn units_per_neighborhood"]:
        n_drawn = 1 if self.neighborhoods == "global" else self.n_neighborhoods
        generator = _generator(self.seed, draw.rank, draw.number, site)
        return sample_neighborhoods(self._places[site][1], n_drawn, generator=generator)

    def _positions_of(self, sites: list[str], heard: Tensor) -> Float[Tensor, "sheets units axes"]:
        """Positions of several sites, brought to the device once."""
        key = (tuple(sites), heard.device, torch.promote_types(heard.dtype, torch.float32))
        if key not in self._positions:
            positions_mm = torch.stack([self._places[site][0].positions_mm for site in sites])
            self._positions[key] = positions_mm.to(*key[1:])
        return self._positions[key]


def _heard_at(site: str, heard: Mapping[str, Tensor], task_loss: Tensor) -> Tensor:
    if site not in heard:
        raise RuntimeError(
            f"nothing was heard at site {site!r}; run one forward pass that calls it inside "
            "`with objective.listen():` before each call of the objective"
        )
    if task_loss.requires_grad and not heard[site].requires_grad:
        raise ValueError(
            f"activations at site {site!r} carry no gradient; switch gradient checkpointing off, unfreeze what "
            "feeds the site, or leave the site out"
        )
    return heard[site]


def _listed(terms: Any) -> list[Term]:
    if isinstance(terms, (str, Term)) or not isinstance(terms, Iterable):
        return _listed([terms])
    chosen = list(terms)
    for term in chosen:
        if not isinstance(term, Term):
            given, site = (repr(term), term) if isinstance(term, str) else (type(term).__name__, "fc*")
            raise TypeError(f"terms holds {given}; give a Term such as WeightSmoothness({site!r})")
    return chosen


def _counts(term: Term) -> bool:
    return callable(term.weight) or _checked_weight(term, term.weight) > 0 or getattr(term, "watches", False)


def _checked_weight(term: Term, weight: Any) -> float:
    if not is_weight(weight):
        raise ValueError(f"term {term.name!r} has weight {weight!r}; expected a finite number from 0 on")
    return weight


def _refuse_half(model: nn.Module) -> None:
    """Refuse to train parameters in which the steps of the losses are lost."""
    trained = {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.requires_grad}
    half = [name for name, dtype in trained.items() if dtype.is_floating_point and dtype.itemsize < 4]
    if half:
        raise ValueError(
            f"parameter {half[0]!r} is trained in {trained[half[0]]} ({len(half)} such of {len(trained)}), where steps "
            "become NaN or round to nothing; keep parameters in float32 (model.float()) and compute under "
            "torch.autocast, or freeze them"
        )


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _generator(*key: object) -> torch.Generator:
    """A source of randomness that depends on the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
