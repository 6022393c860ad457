"""`--dry_run`: prints what a run would do. It trains nothing and writes nothing."""

import hashlib
import shlex
import tempfile
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import keras
import numpy as np

from kerasft.augment import DEFAULT_AUGMENT
from kerasft.console import console, stderr_filter, wording
from kerasft.console.columns import columns
from kerasft.console.wording import duration
from kerasft.data import findings, sources, splits, unlabelled
from kerasft.data.audit import audit
from kerasft.data.listing import SPLITS, Finding, Listing
from kerasft.data.splits import Splits
from kerasft.evaluation import scoring
from kerasft.export.portable import publish as portable_formats
from kerasft.job import build_network, served_baseline, uncertainty
from kerasft.job.audited_splits import as_audited, refuse_bad_images
from kerasft.job.backbone import leaves_choice, likely
from kerasft.networks import bundled, published_accuracy
from kerasft.networks import network as networks
from kerasft.networks.multiplications import forward_work
from kerasft.networks.network import Network
from kerasft.probes import boosted_trees
from kerasft.settings import config as configs
from kerasft.settings import spec as specs
from kerasft.settings.backbone_list import is_file
from kerasft.settings.config import Config
from kerasft.storage import run_folder
from kerasft.strategies import auto, budget, caching, freezing, planning
from kerasft.strategies.phase import Phase
from kerasft.strategies.variables import phase_network
from kerasft.training import domain_shift, forward_speed, head_init, phase_table, train_setup

# Images that are decoded to measure the decoding speed.
SAMPLED_IMAGES = 64
# A longer audit is left to the run itself.
MAX_AUDIT_SECONDS = 30.0
# Forward passes are timed for so many seconds.
TIMED_SECONDS = 2.0
# The table of counts has at most so many classes.
MAX_CLASSES = 20
# A run measures these if they are `auto` or have no value.
MEASURED_SETTINGS = ("framing", "augment", "tta", "precision", "batch_size", "jit")


def show(config: Config) -> None:
    """Prints data, network, phases, settings and expected time of a run.

    Raises:
        UserError: the run would raise it too, before it trains.
    """
    console.say("dry run: nothing is trained, and nothing is written")
    budget.check(config.budget_minutes, config.deterministic)
    portable_formats.parse_formats(config.specs("export"))
    if config.boosted_trees:
        boosted_trees.load()
    listing = as_audited(config, sources.load(config))
    folder_of_run, finished = run_folder.find(config, listing.name)
    served_baseline.open_baseline(config, listing.task, listing.classes)
    with tempfile.TemporaryDirectory() as folder:
        network = _network(config, listing, Path(folder))
    data, decoded_per_second = _data(config, listing, network.size)
    uncertainty.check_count(config, data)
    train_setup.check_quantile(config, network, data)
    _show_data(data)
    speed = forward_speed.measure(scoring.make_predictor(network.model), network.size, TIMED_SECONDS)
    further = len(data.unlabelled or ())
    shift = _shift(config, network, data)
    speed_of_plan = None if config.deterministic else speed
    planned, reason = planning.plan(
        config, network, len(data.train) + further, speed_of_plan, shift, not _leaves_weights_out(config)
    )
    count = network.model.count_params()
    console.say(f"network: {network.name}, {count:,} parameters, {network.size}x{network.size} pixels")
    named = [str(spec) for spec in likely(config).specs("backbone")]
    if _leaves_weights_out(config) and any(map(published_accuracy.must_download, named)):
        console.say("weights: imagenet, which is not on this machine; the run would download it")
    console.say(f"phases: {reason}")
    phase_table.show_phases([(phase, *freezing.apply(phase_network(network, phase), phase)) for phase in planned])
    _show_settings(config, listing.name, folder_of_run, is_finished=finished is not None)
    _show_time(network, planned, data, speed, decoded_per_second)


def _network(config: Config, listing: Listing, folder: Path) -> Network:
    """Builds the network of the run, without downloading weights and without measuring a precision."""
    config = likely(config)
    weights = bundled.resolve_weights(config)
    precision = "float32" if config.precision == "auto" else config.precision
    built = replace(
        config,
        precision=precision,
        framing=listing.framing,
        keep_cache=False,
        weights="none" if weights == "imagenet" else weights,
    )
    # `auto` depends on whether there are weights, and here they are left out.
    if weights == "imagenet" and config.head_init == "auto":
        built = replace(built, head_init="probe")
    network, _ = build_network.resolve_settings(built, listing, folder)
    return network._replace(pretrained=network.pretrained or weights == "imagenet")


def _shift(config: Config, network: Network, data: Splits) -> float | None:
    """The domain shift of the images. Weights that are left out tell none, and near images are assumed."""
    if not planning.has_auto(config):
        return None
    if not _leaves_weights_out(config):
        if config.preprocessing == "dataset":
            networks.set_pixel_statistics(network, *head_init.pixel_statistics(data.train, network.size))
        return domain_shift.measure(network, data.train)
    has_statistics = any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.model.layers)
    return 0.0 if has_statistics else None


def _leaves_weights_out(config: Config) -> bool:
    """Whether the run may download weights, which the dry run does not. A saved backbone holds its own."""
    chosen = likely(config)
    return bundled.resolve_weights(chosen) == "imagenet" and not is_file(chosen.backbone)


def _data(config: Config, listing: Listing, size: int) -> tuple[Splits, float]:
    """Returns the splits of the run, and the decoded images per second. A short audit is done, a long one is not."""
    further = listing.unlabelled and replace(listing.unlabelled, framing=listing.framing)
    count = len(listing.ids) + (len(further.ids) if further else 0)
    with stderr_filter.without_notices():
        rate = _decoding_speed(listing, size)
        if is_short := count / rate <= MAX_AUDIT_SECONDS:
            with console.progress("audit", count) as advance:
                checked, _ = audit(listing, size, advance, None)
                further, _ = audit(further, size, advance, None, inspected=False) if further else (None, None)
        else:
            console.say(f"audit: left to the run; {count:,} files would take about {duration(count / rate)}")
            checked, further = _hash_files(listing), further and _hash_files(further)
        found = (*checked.findings, *(further.findings if further else ()))
        refuse_bad_images(config, found)
        fractions = config.val_fraction, config.test_fraction
        data = splits.make_splits(checked, None, *fractions, config.seed, config.per_class_limit)
        return unlabelled.with_unlabelled(data, checked, further, None, size, near=is_short) if further else data, rate


def _decoding_speed(listing: Listing, size: int) -> float:
    """Returns how many images are read and decoded per second."""
    count = len(listing.ids)
    seconds = []
    # The first measurement, of one image, is the start-up time of an audit.
    for wanted in (1, min(SAMPLED_IMAGES, count)):
        rows = np.unique(np.arange(wanted) * count // wanted)
        started = time.monotonic()
        audit(_subset(listing, rows), size, lambda _: None, None)
        seconds.append(time.monotonic() - started)
    return min(SAMPLED_IMAGES, count) / max(seconds[1] - seconds[0], 0.05 * seconds[1])


def _subset(listing: Listing, rows: np.ndarray) -> Listing:
    """Returns the listing of some of the files."""
    chosen = {name: getattr(listing, name)[rows] for name in ("ids", "labels", "split_names")}
    chosen["groups"] = None if listing.groups is None else listing.groups[rows]
    return replace(listing, **chosen, read=lambda index: listing.read(int(rows[index])))


def _hash_files(listing: Listing) -> Listing:
    """Returns the listing with the digests that decide the splits, without files that cannot be read."""
    digests, good = np.full(len(listing.ids), "", dtype="<U64"), np.ones(len(listing.ids), bool)
    found = list(listing.findings)
    with console.progress("reading", len(good)) as advance:
        for index in range(len(good)):
            try:
                digests[index] = hashlib.sha256(listing.read(index)).hexdigest()
            # Too large a file is a ValueError.
            except (OSError, ValueError) as error:
                good[index] = False
                found.append(Finding(str(listing.ids[index]), "unreadable", "reject", str(error)))
            advance(1)
    # Nothing is decoded, so only files with equal bytes count as equal images.
    return replace(listing, findings=tuple(found)).without_rejected(good, digests, digests)


def _show_data(data: Splits) -> None:
    counts = data.counts()
    names = sorted(counts["train"], key=lambda name: -counts["train"][name])
    rows = [(name, *(f"{counts[part].get(name, 0):,}" for part in SPLITS)) for name in names[:MAX_CLASSES]]
    if len(names) > MAX_CLASSES:
        rows.append((f"({len(names) - MAX_CLASSES} more)", "", "", ""))
    rows.append(("images", *(f"{len(getattr(data, part)):,}" for part in SPLITS)))
    thing = "target" if data.task == "regression" else "class"
    console.say(f"data: {data.name}, {data.task}, {wording.classes(data.task, data.classes)}")
    if data.unlabelled is not None:
        console.say(f"unlabelled: {wording.count(len(data.unlabelled), 'image')}")
    # Line by line, because `say` escapes line breaks.
    for line in columns((thing, *SPLITS), rows, right=SPLITS).splitlines():
        console.say(line)
    kinds = Counter(f"{finding.kind.replace('_', ' ')} ({finding.verdict})" for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    console.say(f"findings: {found or 'nothing amiss'}")
    # There is no `audit.json` yet.
    findings.show(data.findings, max_lines=5, whole_list="kerasft audit lists them")


def _show_settings(config: Config, name: str, folder: Path, *, is_finished: bool) -> None:
    changed = [
        shlex.quote(f"--{item.name}={getattr(config, item.name)}")
        for item in fields(config)
        if getattr(config, item.name) != configs.FIELDS[item.name].default
    ]
    console.say(f"settings: {' '.join(changed) or 'the defaults'}")
    unresolved = [name for name in MEASURED_SETTINGS if getattr(config, name) in ("auto", None)]
    if leaves_choice(config):
        unresolved = ["backbone", *unresolved]
    if planning.has_auto(config) and _leaves_weights_out(config):
        unresolved.append("layers, image size and rate of --phases")
    if unresolved:
        console.say(f"measured when the run starts: {', '.join(unresolved)}")
    console.say(f"run folder: {folder}{', which has a finished run: it would only be read' if is_finished else ''}")
    console.say(f"export: {Path(config.export_dir) / name}/VERSION")


def _show_time(network: Network, planned: list[Phase], data: Splits, speed: float, decoded: float) -> None:
    counts, further = [len(getattr(data, part)) for part in SPLITS], len(data.unlabelled or ())
    # Which augmentation `auto` takes is measured when the run starts. Its number of passes does not depend on it.
    recipe = specs.parse(DEFAULT_AUGMENT, "--augment")
    planned = [replace(one, augment=recipe) if list(map(str, one.augment)) == ["auto"] else one for one in planned]
    certain = [phase for phase in planned if not phase.conditional]
    # Phases with epochs train on images without labels too.
    trained = {True: counts[0] + further, False: counts[0]}

    def passes_of(phase: Phase) -> float:
        return forward_passes(network, phase, trained[phase.epochs > 0], counts[1])

    passes = sum(map(passes_of, certain))
    # Validation and test are scored twice: with Keras, and through the export.
    scored = 2 * sum(counts[1:])
    decoding = sum(counts) + further
    seconds = decoding / decoded + (passes + scored) / speed
    console.say(
        f"expected time: about {duration(seconds)}, without start-up and saving. This counts {passes + scored:,.0f} forward "
        f"passes at {speed:,.0f} images a second and {decoding:,} images decoded at {decoded:,.0f} a second, both "
        f"measured now. A training step counts as {auto.FORWARD_PASSES_PER_STEP:g} forward passes."
    )
    if conditional := sum(passes_of(phase) for phase in planned if phase.conditional):
        console.say(
            f"a further phase, which follows if the one before gains enough, would take about {duration(conditional / speed)} more"
        )


def forward_passes(network: Network, phase: Phase, train: int, val: int) -> float:
    """Returns the work of a phase, in forward passes of the whole network over one image.

    Args:
        train, val: numbers of images in these splits.

    Raises:
        UserError: the phase names a number of augmentations that cannot be.
    """
    views = caching.cached_views(network, phase, train, val)
    halves = caching.split_at_cut(network, phase) if views or phase.freezes else None
    share = forward_work(halves[0]) / forward_work(network.model) if halves else 0.0
    # Without epochs the head is solved on the features of all images.
    if phase.epochs == 0:
        return share * (train + val)
    step = auto.FORWARD_PASSES_PER_STEP * ((phase.image_size or network.size) / network.size) ** 2
    if views:
        return share * (views * train + val) + phase.epochs * (1 - share) * (step * train + val)
    # Without a cache the frozen part runs in each epoch, but only forward.
    step *= 1 - share + share / auto.FORWARD_PASSES_PER_STEP
    return val + phase.epochs * (step * train + val)
