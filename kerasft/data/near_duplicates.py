"""Near duplicates: the same photograph in other bytes, at another size, in another quality, or slightly cropped.

Candidates agree in their lowest frequencies, as in pHash (Zauner 2010), but compared as numbers and over several parts of
the image, so that a crop is found as well. A candidate is confirmed where the finer detail, which the lowest frequencies
leave out, agrees too: other photographs of the same kind fail there.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from kerasft.console import wording
from kerasft.data import image_measurements
from kerasft.data.image_measurements import PAIRED_REGIONS, REGIONS, WHOLE, Measures, Region
from kerasft.data.listing import Finding

# Cosine of the descriptors from which two images are candidates.
MIN_SIMILARITY = 0.9
# Correlation of the finer detail from which candidates are confirmed.
MIN_CORRELATION = 0.92
# Images with a shorter side have too little detail to be told from others of their kind.
MIN_SIDE = 32
# Of an image the `_MAX_SIMILAR` most similar others are looked at. A pair is left out where both have `MAX_CANDIDATES` more
# similar partners.
MAX_CANDIDATES, _MAX_SIMILAR = 2, 16
# At most so many candidates are compared, those that are most similar.
MAX_COMPARED = 50_000
# Of more images, only the whole and centred parts are compared: the comparisons grow with the square of their number.
MAX_ALL_REGIONS = 20_000
# Up to so many images are compared in one thread.
MAX_SINGLE_THREAD = 10_000
# The finer detail is compared at so many pixels a side.
_DETAIL_SIDE = 32
# The images of a pair are aligned: over at most `_MAX_SHIFT` of these pixels, at each of these changes of the region's extent, then
# by these steps of extent and place. Extents and steps are shares of the side.
_MAX_SHIFT = 2
_EXTENT_CHANGES = (0.0, -0.04, 0.04)
_FINE_STEPS = (0.016, 0.008, 0.004)
# A pair that correlates less at its own extent, or less at the best of the changes, is not aligned further.
_MIN_FIRST, _MIN_COARSE = 0.45, 0.65
# Images are compared, and fetched, in steps that bound the memory.
_ROWS_PER_STEP, _PAIRS_PER_STEP = 512, 4096
# Decoded images are averaged so many at a time, which fit into the cache of a processor.
_IMAGES_PER_STEP = 32


class Pair(NamedTuple):
    """Two rows that show the same photograph, the first before the second, and the correlation of their detail."""

    first: int
    second: int
    correlation: float


class _Candidate(NamedTuple):
    """Two rows, and the parts of their images that are most alike."""

    one: int
    other: int
    region: Region
    other_region: Region


def find_pairs(found: Measures, take: Callable[[np.ndarray], np.ndarray]) -> tuple[list[Pair], int]:
    """Finds near duplicates.

    Args:
        found: measures of N images, of which no two are equal.
        take: rows [B] to decoded images, uint8 [B, S, S, 3].

    Returns:
        The confirmed pairs, ordered by rows; and how many candidates were not compared, for there were too many.
    """
    from threadpoolctl import threadpool_limits

    sizes = found.sizes.min(1)
    has_contrast = found.descriptors[:, WHOLE].any(1)
    # A size of 0 is not known.
    rows = np.flatnonzero(has_contrast & ((sizes >= MIN_SIDE) | (sizes == 0)))
    if len(rows) < 2:
        return [], 0
    confirmed = []
    # Of few images, threads of the linear algebra wait for each other longer than a product takes.
    with threadpool_limits(1 if len(rows) <= MAX_SINGLE_THREAD else None):
        candidates = _find_candidates(found.descriptors, rows)
        left_out = max(len(candidates) - MAX_COMPARED, 0)
        candidates = candidates[:MAX_COMPARED]
        for start in range(0, len(candidates), _PAIRS_PER_STEP):
            step = candidates[start : start + _PAIRS_PER_STEP]
            greys = _take_greys(np.unique([(pair.one, pair.other) for pair in step]), take)
            for first in range(0, len(step), _IMAGES_PER_STEP):
                confirmed += _confirm(step[first : first + _IMAGES_PER_STEP], greys)
    return sorted(confirmed), left_out


def describe_left_out(path: str, count: int) -> list[Finding]:
    """Returns a finding about candidates that were not compared, if there are any.

    Args:
        path: of the finding.
        count: of the candidates.
    """
    detail = f"{wording.count(count, 'pair')} of similar images were not compared, only the {MAX_COMPARED:,} most similar; near duplicates may be missed"
    return [Finding(path, "not_compared", "warn", detail)] if count else []


def _take_greys(rows: np.ndarray, take: Callable[[np.ndarray], np.ndarray]) -> dict[int, np.ndarray]:
    """Returns the averaged grey image, float32 [s, s], of each row."""
    greys = {}
    for first in range(0, len(rows), _IMAGES_PER_STEP):
        chosen = rows[first : first + _IMAGES_PER_STEP]
        greys.update(zip(chosen.tolist(), image_measurements.to_grey(take(chosen)), strict=True))
    return greys


def _confirm(candidates: list[_Candidate], greys: dict[int, np.ndarray]) -> list[Pair]:
    """Returns the candidates whose finer detail agrees."""
    ones, others, regions, other_regions = map(list, zip(*candidates, strict=True))
    correlations = _correlate(
        np.stack([greys[row] for row in ones]), np.stack([greys[row] for row in others]), regions, other_regions
    )
    return [
        Pair(min(one, other), max(one, other), correlation)
        for one, other, correlation in zip(ones, others, correlations.tolist(), strict=True)
        if correlation >= MIN_CORRELATION
    ]


def group(count: int, pairs: list[Pair]) -> np.ndarray:
    """Returns int [N], the least row of the connected component of each of `count` rows; pairs are the edges."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.array([pair[:2] for pair in pairs], int).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(first)), (first, second)), (count, count)))
    _, least = np.unique(component, return_index=True)
    return least[component]


def _find_candidates(descriptors: np.ndarray, rows: np.ndarray) -> list[_Candidate]:
    """Returns pairs of these rows whose descriptors are similar in some `PAIRED_REGIONS`, the most similar first.

    Args:
        descriptors: float16 [N, R, F * F] of norm 1, so that a product of two is their cosine.
        rows: int [n].
    """
    paired = np.array(PAIRED_REGIONS)
    if len(rows) > MAX_ALL_REGIONS:
        centred = [not any(REGIONS[region][2:]) for region, _ in PAIRED_REGIONS]
        paired = paired[(paired[:, 1] == WHOLE) & centred]
    descriptors = descriptors[rows].astype(np.float32)
    by_region = np.ascontiguousarray(descriptors.transpose(1, 0, 2))
    similar = []
    for start in range(0, len(rows), _ROWS_PER_STEP):
        chosen = np.arange(start, min(start + _ROWS_PER_STEP, len(rows)))
        best = np.full((len(chosen), len(rows)), -1, np.float32)
        for region, other_region in paired:
            np.maximum(best, by_region[region, chosen] @ by_region[other_region].T, out=best)
        best[np.arange(len(chosen)), chosen] = -1
        for at in np.flatnonzero(best.max(1) >= MIN_SIMILARITY):
            near = np.flatnonzero(best[at] >= MIN_SIMILARITY)
            near = near[np.argsort(-best[at, near], kind="stable")][:_MAX_SIMILAR]
            similar += [(float(best[at, other]), int(chosen[at]), int(other)) for other in near]
    candidates, counts, seen = [], np.zeros(len(rows), int), set()
    for _, one, other in sorted(similar, key=lambda each: -each[0]):
        key = min(one, other), max(one, other)
        if key in seen or counts[[one, other]].min() >= MAX_CANDIDATES:
            continue
        seen.add(key)
        counts[[one, other]] += 1
        cosines = (descriptors[one, paired[:, 0]] * descriptors[other, paired[:, 1]]).sum(1)
        region, other_region = (REGIONS[place] for place in paired[cosines.argmax()])
        candidates.append(_Candidate(int(rows[one]), int(rows[other]), region, other_region))
    return candidates


def _correlate(ones: np.ndarray, others: np.ndarray, regions: list[Region], other_regions: list[Region]) -> np.ndarray:
    """Returns the correlations float32 [P] of the detail of pairs of images, grey float32 [P, s, s], where they fit best.

    The regions of the first images are scaled and moved: first over whole pixels of the detail, with a Fourier transform,
    then by smaller and smaller steps. Pairs that correlate too little are not followed further.
    """
    wanted = _details(others, other_regions)
    spectra = np.fft.rfft2(wanted).conj()
    highest, best = np.full(len(ones), -1, np.float32), list(regions)
    following = np.arange(len(ones))
    for change in _EXTENT_CHANGES:
        if not len(following):
            break
        scaled = [_scale(regions[place], change) for place in following]
        products = np.fft.irfft2(np.fft.rfft2(_details(ones[following], scaled)) * spectra[following])
        near = np.roll(products, (_MAX_SHIFT, _MAX_SHIFT), (1, 2))[:, : 2 * _MAX_SHIFT + 1, : 2 * _MAX_SHIFT + 1]
        shifts = np.stack(np.unravel_index(near.reshape(len(near), -1).argmax(1), near.shape[1:]), 1) - _MAX_SHIFT
        for place, region, found, (down, right) in zip(
            following, scaled, near.max((1, 2)), shifts.tolist(), strict=True
        ):
            if found > highest[place]:
                highest[place] = found
                best[place] = _move(region, down * region.height / _DETAIL_SIDE, right * region.width / _DETAIL_SIDE)
        following = following[highest[following] >= _MIN_FIRST]
    following = following[highest[following] >= _MIN_COARSE]
    # The transform takes an image for periodic. What is returned is the correlation of what is there.
    if len(following):
        aligned = _details(ones[following], [best[row] for row in following])
        highest[following] = (aligned * wanted[following]).sum((1, 2))
    for step in _FINE_STEPS:
        for change in (_scale, lambda r, by: _move(r, by, 0), lambda r, by: _move(r, 0, by)):
            for by in (-step, step):
                tried = [change(best[place], by) for place in following]
                found = (_details(ones[following], tried) * wanted[following]).sum((1, 2))
                for at in np.flatnonzero(found > highest[following]):
                    highest[following[at]], best[following[at]] = found[at], tried[at]
    return np.minimum(highest, 1)


def _scale(region: Region, change: float) -> Region:
    return region._replace(height=min(region.height + change, 1.0), width=min(region.width + change, 1.0))


def _move(region: Region, down: float, right: float) -> Region:
    return region._replace(down=region.down + down, right=region.right + right)


def _details(greys: np.ndarray, regions: list[Region]) -> np.ndarray:
    """Returns a region of each image without its lowest frequencies, float32 [P, D, D] of norm 1 (or 0 without any detail)."""
    if not regions:
        return np.zeros((0, _DETAIL_SIDE, _DETAIL_SIDE), np.float32)
    side = greys.shape[1]
    down = np.stack([_sampling(side, round(one.height, 4), round(one.down, 4)) for one in regions])
    across = np.stack([_sampling(side, round(one.width, 4), round(one.right, 4)) for one in regions])
    sampled = down @ greys @ across.transpose(0, 2, 1)
    lowest = _lowest()
    sampled -= lowest.T @ (lowest @ sampled @ lowest.T) @ lowest
    norms = np.linalg.norm(sampled, axis=(1, 2), keepdims=True)
    # Under half a grey level of detail, only the noise of the encoder would be compared.
    return np.where(norms > _DETAIL_SIDE / 2, sampled / np.maximum(norms, 1e-6), 0)


@functools.cache
def _lowest() -> np.ndarray:
    return image_measurements.cosines(_DETAIL_SIDE, 1.0, 0.0)


@functools.lru_cache(4096)
def _sampling(side: int, extent: float, shift: float) -> np.ndarray:
    """Returns the matrix float32 [D, side] that averages a part of an axis to `_DETAIL_SIDE` samples (a triangle filter)."""
    centres = (((np.arange(_DETAIL_SIDE) + 0.5) / _DETAIL_SIDE - 0.5) * extent + 0.5 + shift) * side - 0.5
    # A region that was moved past the edge repeats the outermost pixels.
    centres = np.clip(centres, 0, side - 1)
    width = max(extent * side / _DETAIL_SIDE, 1.0)
    weights = np.maximum(0, 1 - np.abs(np.arange(side) - centres[:, np.newaxis]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
