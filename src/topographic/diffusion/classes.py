"""What the units of a condition say to each class: responses on a sheet, as of any other layer."""

from collections.abc import Sequence

import torch

from topographic.diffusion.modeling import DiffusionModel
from topographic.recording import Responses, find_sites, tap
from topographic.recording.placement import AnyLayout, settled_layout
from topographic.stimuli import StimulusSet

__all__ = ["class_responses"]


def class_responses(
    model: DiffusionModel,
    sites: str | Sequence[str],
    layout: AnyLayout = None,
    *,
    names: Sequence[str] | None = None,
) -> dict[str, Responses]:
    """Responses of the units of a condition to every class.

    Parameters
    ----------
    model : DiffusionModel
        Any; it is left as it is.
    sites : str or sequence of str
        Modules of the condition, for example "denoiser.condition.linear_1"; "denoiser.condition.table" has the numbers
        of the prototypes themselves as its units. Of a model with a running mean, "averaged.module.condition.*"
        is what samples.
    layout : callable or mapping of str to Sheet, optional
        Where units lie; in order on a nearly square grid by default, as the smoothness of weights lays them.
    names : sequence of str, optional
        Names of the classes; their numbers by default.

    Returns
    -------
    dict of str to Responses
        For each site values of shape (classes, units); every class is one item and a condition of its own.

    Raises
    ------
    ValueError
        If there are more or fewer names than classes, or a site is no part of a condition or says something else than
        one vector per class.

    Examples
    --------
    >>> from topographic.diffusion import DiffusionConfig
    >>> model = DiffusionModel(DiffusionConfig(image_size=8, block_out_channels=[8, 8], num_labels=3, width=12))
    >>> class_responses(model, "denoiser.condition.table", names=["cat", "dog", "ship"])
    {'denoiser.condition.table': Responses('denoiser.condition.table': 3 items x 12 units, \
to StimulusSet('classes': 1 cat, 1 dog, 1 ship))}
    """
    n_classes = model.n_classes
    labels = tuple(map(str, range(n_classes)) if names is None else names)
    if len(labels) != n_classes:
        raise ValueError(f"{len(labels)} names and {n_classes} classes; give one for each class")
    found = find_sites(model, sites)
    sheets = settled_layout(model, found, layout)
    shown = torch.arange(n_classes, device=next(model.parameters()).device)
    with torch.no_grad(), tap(model, found) as heard:
        for network in (model.denoiser, model.sampler):
            network.condition(shown)
    for site in found:
        if site not in heard or heard[site].ndim != 2 or len(heard[site]) != n_classes:
            raise ValueError(f"site {site!r} has no vector for each class; choose a layer of a condition")
    stimuli = StimulusSet("classes", labels, labels)
    values = {site: heard[site].float().cpu().numpy() for site in found}
    return {site: Responses(site, one, sheets(one.shape[1], site), stimuli) for site, one in values.items()}
