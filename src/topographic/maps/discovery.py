"""Regions that nobody asked for: kinds of sentences found without labels, and patches that answer to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import factorial, prod
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from scipy.cluster.hierarchy import linkage
from tqdm.auto import tqdm

from topographic.maps.clusters import largest_above, patches_above
from topographic.maps.localizer import one_stimulus_set
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import NotMeasurable, Referenced, compare
from topographic.maps.selection import Selection
from topographic.maps.stability import split_half
from topographic.maps.two_sample import Moments, cohens_d, group_moments, welch_t
from topographic.recording.responses import Responses
from topographic.sheets import adjacency, grid
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["N_TOPICS", "DiscoveredRegion", "Discovery", "discover_regions", "passage_topics"]

N_TOPICS = 50  # at most
_FEWEST_ORDERS = 20  # arrangements of the held-out items, with fewer of which no p reaches .05
_SAME = 0.98  # correlation of the similarities of items, above which an embedding is the responses themselves
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class DiscoveredRegion:
    """A patch that answers to a kind of sentences, found on half of them and confirmed on the others.

    Parameters
    ----------
    selection : Selection
        The patch, as the first half shows it.
    items : ndarray of int, shape (members,)
        The sentences of that kind, of both halves, by their number in the stimulus set.
    words : tuple of str
        Words that are more typical of them than of the others, the most typical one first (TF-IDF).
    typical : tuple of str
        Sentences nearest to the middle of the kind.
    strongest : tuple of str
        Of all held-out sentences, members or not, those that drive the patch most: a check of the name.
    t, d : float
        Welch's t and Cohen's d of the mean activity of the patch, members against all others, held out.
    d_elsewhere : float
        The same d for all other units of the sheet together: near ``d`` where the kind is not a matter of place.
    p, p_corrected : float
        One-sided, of t: by itself, and corrected over all candidates (step-down max-T, family-wise).
    mass : Referenced
        Mass of the largest patch of the held-out map, beside the same map with its units permuted ("unit"): whether
        the units that answer lie together.
    control_mass : float
        Mass of the largest patch on the control sheet for the same kind; NaN without a control.
    n_tokens, n_tokens_others : float
        Mean number of tokens of members and others; NaN where not recorded.
    """

    selection: Selection
    items: Int[np.ndarray, " members"]
    words: tuple[str, ...]
    typical: tuple[str, ...]
    strongest: tuple[str, ...]
    t: float
    d: float
    d_elsewhere: float
    p: float
    p_corrected: float
    mass: Referenced
    control_mass: float = float("nan")
    n_tokens: float = float("nan")
    n_tokens_others: float = float("nan")

    def to_row(self) -> dict[str, Any]:
        """One row of a table."""
        return {
            "site": self.selection.site,
            "words": ", ".join(self.words),
            "typical": " | ".join(self.typical),
            "strongest": " | ".join(self.strongest),
            "sentences": len(self.items),
            "units": self.selection.n_selected,
            "t": self.t,
            "d": self.d,
            "d elsewhere": self.d_elsewhere,
            "p": self.p,
            "p (corrected)": self.p_corrected,
            **self.mass.to_columns("mass"),
            "mass on control": self.control_mass,
            "tokens": self.n_tokens,
            "tokens of others": self.n_tokens_others,
        }


@dataclass(frozen=True, eq=False)
class Discovery:
    """What `discover_regions` found, and what it tested to find it.

    Parameters
    ----------
    regions : tuple of DiscoveredRegion
        Those that replicate, the one of largest held-out t first.
    tested : DataFrame
        A row for every candidate: site, members, units, mass in the first half, held-out t, p, p (corrected).
    tree : ndarray, shape (sentences - 1, 4)
        Ward linkage, as `scipy.cluster.hierarchy.linkage` gives it.
    """

    regions: tuple[DiscoveredRegion, ...]
    tested: pd.DataFrame
    tree: Float[np.ndarray, "merges 4"] = field(repr=False)

    def __len__(self) -> int:
        """Number of regions."""
        return len(self.regions)

    def to_frame(self) -> pd.DataFrame:
        """A row per region."""
        return pd.DataFrame([region.to_row() for region in self.regions])


def discover_regions(
    responses: Responses | Mapping[str, Responses],
    embeddings: Shaped[np.ndarray, "stimuli features"],
    *,
    threshold: float = 3.0,
    min_items: int = 10,
    min_units: int = 4,
    length: str = "none",
    control: Responses | Mapping[str, Responses] | None = None,
    alpha: float = 0.05,
    n_draws: int = 999,
    n_words: int = 6,
    seed: int = 0,
    progress: bool = False,
) -> Discovery:
    """Find kinds of unlabelled sentences to which some patch of a sheet answers, and keep what replicates.

    Ward's tree of the embeddings proposes kinds. On the first half of the sentences a kind scores the largest mass,
    ``sum over a connected patch of (t_u - threshold)``, that Welch's t of members against all others has on any sheet;
    from the root down, a kind is kept where nothing inside it scores higher, and gives one candidate, with its patch.
    On the other half each candidate has one number, t of the mean activity of its patch (units in standard deviations
    of the first half), against the same with the sentences in random order, corrected over all candidates.

    Parameters
    ----------
    responses : Responses or mapping of site to Responses
        What `record` returns for sentences of any condition. Halves share no run; of one run, no entry of what was
        sampled (``sampled_by``), as in `split_half_stability`.
    embeddings : ndarray, shape (stimuli, features)
        What the tree is made of: one vector per sentence, from another model than that of the responses (see Notes).
    threshold : float
        Of t, above 0, that forms patches; chosen before looking.
    min_items : int
        Members, and others, that a kind needs in each half.
    min_units : int
        Units of a patch.
    length : {"none", "regressed"}
        "regressed": the number of tokens of a sentence is taken out of the responses by least squares.
    control : Responses or mapping of site to Responses, optional
        The same sentences on control sheets, such as those of a rotation fitted on tokens shuffled within units.
    alpha : float
        Level of the family-wise test.
    n_draws : int
        Random orders, at least 19.
    n_words : int
        Words that name a region.
    seed : int
        Seed of the orders.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Discovery
        Regions, candidates and the tree.

    Raises
    ------
    ValueError
        If embeddings do not fit, are the responses themselves, or a number is out of range.
    NotMeasurable
        If a half is too small for two kinds, halves share entries of what was sampled, or too few of the held-out
        sentences may change places.
    ImportError
        If scikit-learn, which weighs the words, is missing.

    Notes
    -----
    The null hypothesis: the patch does not know the kinds, held-out sentences being exchangeable within runs, or whole
    entries of what was sampled with those of as many sentences. It says nothing about embeddings that are made of the
    responses: kinds then differ in them because they were made so, in noise too. Such embeddings are refused where
    the similarities of sentences correlate above .98. Embeddings of another layer of the same model share the noise of
    a sentence with the responses, and a p then says that the layers are tied, not that there is a region for a kind.

    A kind that a patch answers to is not yet one that lives in a place: ``d_elsewhere``, ``mass`` beside permuted
    units, and ``control_mass`` say that. With ``length="regressed"`` p is as good as the regression.

    Topo-Omni (arXiv:2606.09770) walks the tree by the median t over all units, greedily, without a second half.

    References
    ----------
    Ward 1963, J. Am. Stat. Assoc. 58; Westfall & Young 1993, Resampling-Based Multiple Testing.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> generator = np.random.default_rng(0)
    >>> kind = np.repeat([0, 1, 2], 40)
    >>> texts = [("a dog barks", "rain falls", "she sings")[one] + f" {i}" for i, one in enumerate(kind)]
    >>> values = generator.standard_normal((120, 36))
    >>> values[kind == 1, :6] += 2
    >>> shown = Responses("site", values, grid(36), StimulusSet("text", texts, ["text"] * 120))
    >>> found = discover_regions(shown, np.eye(3)[kind] + 0.1 * generator.standard_normal((120, 3)), n_words=2)
    >>> [(region.words, region.selection.n_selected, len(region.items)) for region in found.regions]
    [(('falls', 'rain'), 6, 40)]
    """
    check_draws(n_draws, seed, least=19)
    _check_numbers(threshold, min_items, min_units, length, alpha)
    sites = _by_site(responses)
    controls = {} if control is None else _by_site(control)
    stimuli = one_stimulus_set(sites)
    _check_control(sites, controls, stimuli)
    vectors = _checked(embeddings, sites)
    _sklearn()
    first, second, places = _halves(sites)
    order = _orders(next(iter(second.values())).stimuli, n_draws, stream(seed, "discovery"))
    tree = linkage(vectors, "ward")
    members, children = _kinds(tree, places, min_items)
    halves = [{site: _values(one, length) for site, one in half.items()} for half in (first, second)]
    inside = [members[:, part] for part in places]
    patches = _patches(first, halves[0], inside[0], threshold, min_units, progress=progress)
    kept = _walk(np.array([mass for _, _, mass in patches]), children)

    spread = {site: (values.mean(0), _nonzero(values.std(0))) for site, values in halves[0].items()}
    tested = []
    for kind in tqdm(kept, desc="held-out half", disable=not progress):
        site, units, mass = patches[kind]
        activity = ((halves[1][site] - spread[site][0]) / spread[site][1]).astype(np.float64)
        drawn = _t_of_orders(activity[:, units].mean(1), inside[1][kind], order)
        tested.append((kind, activity, drawn[0], drawn[1:]))
    observed = np.array([t for *_, t, _ in tested])
    p, corrected = _step_down(observed, np.array([drawn for *_, drawn in tested]).reshape(len(tested), n_draws))

    columns = ["site", "sentences", "units", "mass (first half)", "t", "p", "p (corrected)"]
    rows = [
        (patches[kind][0], members[kind].sum(), len(patches[kind][1]), patches[kind][2], t, p[index], corrected[index])
        for index, (kind, _, t, _) in enumerate(tested)
    ]
    chosen = np.flatnonzero(corrected <= alpha)
    words: Any = _words(stimuli.items) if len(chosen) else None
    regions = []
    for index in chosen[np.argsort(-observed[chosen], kind="stable")]:
        kind, activity, t, _ = tested[index]
        site, units, mass = patches[kind]
        own = inside[1][kind]
        selection = _selection(sites[site], units, mass, members[kind], alpha)
        patch = activity[:, selection.mask].mean(1)
        rest = None if selection.mask.all() else activity[:, ~selection.mask].mean(1)
        on_control = None if not controls else controls[site].take(places[1])
        n_tokens = sites[site].n_tokens
        regions.append(
            DiscoveredRegion(
                selection,
                np.flatnonzero(members[kind]),
                _typical_words(words, members[kind], n_words),
                _nearest(vectors, members[kind], stimuli),
                tuple(stimuli.items[places[1][one]] for one in np.argsort(-patch, kind="stable")[:_SHOWN]),
                t=float(t),
                d=_effect(patch, own),
                d_elsewhere=_NAN if rest is None else _effect(rest, own),
                p=float(p[index]),
                p_corrected=float(corrected[index]),
                mass=_mass(second[site], halves[1][site], own, threshold, n_draws, seed),
                control_mass=_NAN if on_control is None else _largest_mass(on_control, own, threshold, length),
                n_tokens=_NAN if n_tokens is None else float(n_tokens[members[kind]].mean()),
                n_tokens_others=_NAN if n_tokens is None else float(n_tokens[~members[kind]].mean()),
            )
        )
    return Discovery(tuple(regions), pd.DataFrame(rows, columns=columns), tree)


def passage_topics(passages: Sequence[str], seed: int) -> Float[np.ndarray, "passages topics"]:
    """Latent semantic analysis: what the words of a passage say of it, whatever a model makes of them."""
    words_of = _sklearn()  # says what to install
    from sklearn.decomposition import TruncatedSVD

    weigh = words_of.TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_df=0.5)
    try:
        weights = weigh.fit_transform(passages)
    except ValueError as error:  # no word is left
        raise NotMeasurable(f"the {len(passages)} passages of the text share all their words or have none") from error
    n_topics = min(N_TOPICS, min(weights.shape) - 1)
    if n_topics < 1:
        raise NotMeasurable(f"the text has {weights.shape[0]} passages of {weights.shape[1]} words; give a longer one")
    return np.asarray(TruncatedSVD(n_topics, random_state=seed).fit_transform(weights), np.float64)


_NAN = float("nan")


def _selection(
    responses: Responses,
    units: Int[np.ndarray, "_"],
    mass: float,
    inside: Bool[np.ndarray, " items"],
    alpha: float,
) -> Selection:
    mask = np.zeros(responses.sheet.n_units, bool)
    mask[units] = True
    rule = f"answers to a kind of {int(inside.sum())} sentences, family-wise p <= {alpha:g}"
    return Selection(responses.site, mask, responses.sheet, rule, {**responses.provenance, "mass": mass})


def _by_site(responses: Responses | Mapping[str, Responses]) -> dict[str, Responses]:
    return {responses.site: responses} if isinstance(responses, Responses) else dict(responses)


def _check_numbers(threshold: float, min_items: int, min_units: int, length: str, alpha: float) -> None:
    if not (threshold > 0 and np.isfinite(threshold)):
        raise ValueError(f"threshold={threshold}; expected a t above 0, such as 3")
    if min_items < 2 or min_units < 1:
        raise ValueError(f"min_items={min_items}, min_units={min_units}; expected at least 2 sentences and 1 unit")
    if length not in ("none", "regressed"):
        raise ValueError(f"length={length!r}; expected 'none' or 'regressed'")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}; expected a level between 0 and 1, such as 0.05")


def _check_control(sites: Mapping[str, Responses], controls: Mapping[str, Responses], stimuli: StimulusSet) -> None:
    if not controls:
        return
    missing = [site for site in sites if site not in controls]
    if missing or one_stimulus_set(controls).checksum != stimuli.checksum:
        what = f"no responses at {missing[0]!r}" if missing else f"responses to {one_stimulus_set(controls)!r}"
        raise ValueError(f"control has {what}; expected the same sentences ({stimuli!r}) at every site")


def _checked(embeddings: Any, sites: Mapping[str, Responses]) -> Float[np.ndarray, "stimuli features"]:
    """Embeddings that can make a tree and are not the responses themselves."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    n_items = len(next(iter(sites.values())).stimuli)
    if vectors.ndim != 2 or len(vectors) != n_items or not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).sum())
        raise ValueError(
            f"embeddings have shape {vectors.shape} and {bad} entries that are no numbers; expected one finite vector "
            f"for each of the {n_items} sentences"
        )
    own = _similarities(vectors)
    for site, one in sites.items():
        r = float(np.corrcoef(own, _similarities(one.values.astype(np.float64)))[0, 1]) if own.std() else 0.0
        if r > _SAME:
            raise ValueError(
                f"the embeddings are the responses at {site!r} (similarities of sentences correlate {r:.3f}), which "
                "differ between such kinds by construction; embed the sentences with another model"
            )
    return vectors


def _similarities(vectors: Float[np.ndarray, "stimuli features"]) -> Float[np.ndarray, " pairs"]:
    centred = vectors - vectors.mean(0)
    return (centred @ centred.T)[np.triu_indices(len(vectors), 1)]


def _halves(
    sites: Mapping[str, Responses],
) -> tuple[dict[str, Responses], dict[str, Responses], list[Int[np.ndarray, "_"]]]:
    """Both halves, and which items they hold."""
    stimuli = one_stimulus_set(sites)
    numbered = {"": Responses("", np.arange(len(stimuli))[:, None], grid(1), stimuli)}
    places = [next(iter(half.values())).values[:, 0].astype(int) for half in split_half(numbered)]
    if stimuli.sampled_by is not None:
        column = np.array(stimuli.labels[stimuli.sampled_by])
        shared = set(column[places[0]]) & set(column[places[1]])
        if shared:
            raise NotMeasurable(
                f"{len(shared)} entries of {stimuli.sampled_by!r} have sentences in both halves of {stimuli.name!r}, "
                "which agree by these; give runs that keep the sentences of an entry together"
            )
    first, second = ({site: one.take(part) for site, one in sites.items()} for part in places)
    return first, second, places


def _orders(stimuli: StimulusSet, n_draws: int, generator: np.random.Generator) -> Int[np.ndarray, "draws items"]:
    """Random orders of items: items change places within a run, entries of what was sampled with those as large."""
    by = stimuli.sampled_by
    entries = range(len(stimuli)) if by is None else stimuli.labels[by]
    of_entry: dict[Any, list[int]] = {}
    for index, entry in enumerate(entries):
        of_entry.setdefault(entry, []).append(index)
    blocks: dict[Any, list[list[int]]] = {}
    for items in of_entry.values():
        blocks.setdefault(tuple(stimuli.runs[item] for item in items), []).append(items)
    if prod(factorial(min(len(block), 20)) for block in blocks.values()) < _FEWEST_ORDERS:
        raise NotMeasurable(
            f"the held-out half of {stimuli.name!r} has {len(of_entry)} entries of "
            f"{'its own' if by is None else repr(by)} that hardly can change places; give more, of equal numbers of "
            "sentences within a run"
        )
    orders = np.empty((n_draws, len(stimuli)), np.int64)
    for block in blocks.values():
        items = np.array(block)
        turned = np.argsort(generator.random((n_draws, len(block))), axis=1)
        orders[:, items.ravel()] = items[turned].reshape(n_draws, items.size)
    return orders


def _kinds(
    tree: Float[np.ndarray, "merges 4"], places: Sequence[Int[np.ndarray, "_"]], min_items: int
) -> tuple[Bool[np.ndarray, "kinds stimuli"], list[list[int]]]:
    """Members of every kind that is large enough, children before parents, and the kinds right inside each."""
    n_items = len(tree) + 1
    found: dict[int, int] = {}  # node of the tree -> kind
    inner: dict[int, list[int]] = {}  # node -> the largest kinds in it
    below: dict[int, list[int]] = {leaf: [leaf] for leaf in range(n_items)}
    members: list[np.ndarray] = []
    children: list[list[int]] = []
    for merge, (left, right, *_) in enumerate(tree.astype(np.int64)):
        node = n_items + merge
        below[node] = below.pop(left) + below.pop(right)
        inner[node] = inner.pop(left, []) + inner.pop(right, [])
        mask = np.zeros(n_items, bool)
        mask[below[node]] = True
        counts = [(mask[part].sum(), (~mask[part]).sum()) for part in places]
        if min(min(pair) for pair in counts) >= min_items:
            found[node] = len(members)
            children.append(inner[node])
            inner[node] = [found[node]]
            members.append(mask)
    if not members:
        raise NotMeasurable(
            f"no kind of sentences has {min_items} members and {min_items} others in each half of {n_items} sentences; "
            "give more sentences, or lower min_items"
        )
    return np.array(members), children


def _walk(scores: Float[np.ndarray, " kinds"], children: Sequence[Sequence[int]]) -> list[int]:
    """Kinds with a patch in which nothing scores higher, from the root down."""
    best = scores.copy()
    for kind, inner in enumerate(children):  # children come first
        best[kind] = max([scores[kind], *best[list(inner)]])
    inside_another = {one for inner in children for one in inner}
    ahead = [kind for kind in range(len(scores)) if kind not in inside_another]
    kept = []
    while ahead:
        kind = ahead.pop()
        if best[kind] <= 0:
            continue
        if scores[kind] >= best[kind]:
            kept.append(kind)
        else:
            ahead += children[kind]
    return sorted(kept)


def _patches(
    half: Mapping[str, Responses],
    values: Mapping[str, Float[np.ndarray, "items units"]],
    inside: Bool[np.ndarray, "kinds items"],
    threshold: float,
    min_units: int,
    *,
    progress: bool,
) -> list[tuple[str, Int[np.ndarray, "_"], float]]:
    """For every kind the site, units and mass of its largest patch; a mass of 0 where there is none."""
    best: list[tuple[str, np.ndarray, float]] = [("", np.empty(0, int), 0.0)] * len(inside)
    for site, one in tqdm(half.items(), desc="first half", disable=not progress):
        graph = adjacency(one.sheet, "rook")
        maps = _t_maps(values[site], inside)
        for kind in np.flatnonzero((maps > threshold).sum(1) >= min_units):
            for units, mass in patches_above(graph, maps[kind], threshold):
                if len(units) >= min_units and mass > best[kind][2]:
                    best[kind] = (site, units, mass)
    return best


def _t_maps(
    values: Float[np.ndarray, "items units"], inside: Bool[np.ndarray, "kinds items"]
) -> Float[np.ndarray, "kinds units"]:
    """Welch's t of members against others; what is told apart without error has the largest t of the kind."""
    return _finite(welch_t(_moments(values, inside)))


def _moments(values: Float[np.ndarray, "items units"], inside: Bool[np.ndarray, "kinds items"]) -> Moments:
    return group_moments(values - values.mean(0), inside)


def _finite(maps: Float[np.ndarray, "kinds units"]) -> Float[np.ndarray, "kinds units"]:
    reached = np.where(np.isfinite(maps), np.abs(maps), 0).max(axis=1, keepdims=True)
    return np.clip(maps, -reached, reached)


def _t_of_orders(
    patch: Float[np.ndarray, " items"], inside: Bool[np.ndarray, " items"], order: Int[np.ndarray, "draws items"]
) -> Float[np.ndarray, " labellings"]:
    """Welch's t of a patch for the members, and for as many sentences in every order."""
    labels = np.concatenate([inside[None], inside[order]])
    return _finite(welch_t(_moments(patch[:, None], labels)).T)[0]


def _step_down(
    observed: Float[np.ndarray, " candidates"], drawn: Float[np.ndarray, "candidates draws"]
) -> tuple[Float[np.ndarray, " candidates"], Float[np.ndarray, " candidates"]]:
    """P of each candidate, and corrected over all of them (Westfall & Young's step-down max-T)."""
    n_draws = drawn.shape[1]
    slack = 1e-6 * np.abs(observed)
    p = (1 + (drawn >= (observed - slack)[:, None]).sum(1)) / (n_draws + 1)
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(drawn[order][::-1], axis=0)[::-1]  # over itself and all with a smaller t
    steps = (1 + (largest >= (observed - slack)[order][:, None]).sum(1)) / (n_draws + 1)
    corrected = np.empty(len(observed))
    corrected[order] = np.maximum.accumulate(steps)
    return p, corrected


def _values(responses: Responses, length: str) -> Float[np.ndarray, "items units"]:
    values = responses.values.astype(np.float64)
    if length == "none":
        return values
    if responses.n_tokens is None:
        raise ValueError(
            f"responses at {responses.site!r} carry no n_tokens, so length cannot be regressed; use length='none'"
        )
    lengths = responses.n_tokens - responses.n_tokens.mean()
    power = float(lengths @ lengths)
    return values if power == 0 else values - np.outer(lengths, lengths @ values / power)


def _effect(activity: Float[np.ndarray, " items"], inside: Bool[np.ndarray, " items"]) -> float:
    return float(cohens_d(_moments(activity[:, None], inside[None]))[0, 0])


def _largest_mass(responses: Responses, inside: Bool[np.ndarray, " items"], threshold: float, length: str) -> float:
    maps = _t_maps(_values(responses, length), inside[None])
    return float(largest_above(adjacency(responses.sheet, "rook"), maps, threshold)[0, 0])


def _mass(
    responses: Responses,
    values: Float[np.ndarray, "items units"],
    inside: Bool[np.ndarray, " items"],
    threshold: float,
    n_draws: int,
    seed: int,
) -> Referenced:
    """Largest mass of a held-out map, beside the map with its units permuted."""
    found = _t_maps(values, inside[None])
    generator = stream(seed, "unit", responses.site)
    permuted = generator.permuted(np.repeat(found, n_draws, axis=0), axis=1)
    graph = adjacency(responses.sheet, "rook")
    value, *draws = largest_above(graph, np.concatenate([found, permuted]), threshold)[:, 0]
    return Referenced(float(value), {"unit": compare(float(value), np.array(draws))})


def _nearest(
    vectors: Float[np.ndarray, "stimuli features"], inside: Bool[np.ndarray, " stimuli"], stimuli: StimulusSet
) -> tuple[str, ...]:
    members = np.flatnonzero(inside)
    far = np.linalg.norm(vectors[members] - vectors[members].mean(0), axis=1)
    return tuple(stimuli.items[item] for item in members[np.argsort(far, kind="stable")[:_SHOWN]])


def _words(texts: Sequence[str]) -> tuple[Any, np.ndarray]:
    """TF-IDF of every sentence, and the words."""
    weigh = _sklearn().TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return weigh.fit_transform(texts), weigh.get_feature_names_out()


def _typical_words(words: tuple[Any, np.ndarray], inside: Bool[np.ndarray, " stimuli"], n: int) -> tuple[str, ...]:
    weights, names = words
    gain = np.asarray(weights[inside].mean(0)).ravel() - np.asarray(weights[~inside].mean(0)).ravel()
    return tuple(str(names[one]) for one in np.argsort(-gain, kind="stable")[:n] if gain[one] > 0)


def _nonzero(scale: Float[np.ndarray, " units"]) -> Float[np.ndarray, " units"]:
    return np.where(scale > 0, scale, 1.0)


def _sklearn() -> Any:
    try:
        import sklearn.feature_extraction.text
    except ImportError as error:
        raise ImportError(
            "naming regions needs scikit-learn, which is not installed; run `pip install 'topographic[brain]'`"
        ) from error
    return sklearn.feature_extraction.text
