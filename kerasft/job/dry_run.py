"""`--dry_run`: says what a run would do. It trains nothing, and leaves nothing behind."""

import hashlib
import math
import shlex
import tempfile
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from kerasft.console import console, stderr_filter
from kerasft.console.columns import columns
from kerasft.console.wording import duration
from kerasft.data import findings, sources, splits
from kerasft.data.audit import audit
from kerasft.data.listing import SPLITS, Listing
from kerasft.data.splits import Splits
from kerasft.evaluation import scoring
from kerasft.job import resolve
from kerasft.networks import bundled
from kerasft.networks.network import Network
from kerasft.settings import config as configs
from kerasft.settings.config import Config
from kerasft.strategies import auto, freezing, planning
from kerasft.strategies.phase import Phase
from kerasft.training import phase_inputs, phase_table

SAMPLE = 64  # pictures whose decoding is timed
AUDIT_SECONDS = 30.0  # a longer audit is left to the run itself
TIMED_SECONDS = 2.0  # of forward passes, for the speed of the network
TIMED_BATCH = 32  # pictures of such a pass
MAX_CLASSES = 20  # that the table of counts lists
MEASURED = ("framing", "augment", "precision", "batch_size", "jit")  # what `auto`, or no value, leaves to a measurement


def show(asked: Config) -> None:
    """Prints data, network, phases, settings and expected time of the run that a Config asks for.

    Raises:
        UserError: what the run itself would refuse before it trains.
    """
    console.say("dry run: nothing is trained, and nothing is written")
    framing = "crop" if asked.framing == "auto" else asked.framing
    listing = replace(sources.load(asked), framing=framing)
    with tempfile.TemporaryDirectory() as place:
        network = _network(asked, listing, Path(place))
    data, decoded_per_second = _data(asked, listing, network.size)
    _show_data(data)
    speed = _forward_speed(network)
    planned, reason = planning.plan(asked, network, len(data.train), None if asked.deterministic else speed)
    count = network.model.count_params()
    console.say(f"network: {network.name}, {count:,} parameters, {network.size}x{network.size} pixels")
    console.say(f"phases: {reason}")
    phase_table.show_phases([(phase, *freezing.apply(network, phase)) for phase in planned])
    _show_settings(asked, listing.name)
    _show_time(network, planned, data, speed, decoded_per_second)


def _network(asked: Config, listing: Listing, place: Path) -> Network:
    """The network of the run, without weights that would have to be downloaded, and without measuring a precision."""
    weights = bundled.resolve_weights(asked)
    precision = "float32" if asked.precision == "auto" else asked.precision
    built = replace(
        asked,
        precision=precision,
        framing=listing.framing,
        keep_cache=False,
        weights="none" if weights == "imagenet" else weights,
    )
    if weights == "imagenet" and asked.head_init == "auto":  # which depends on whether there are weights
        built = replace(built, head_init="probe")
    network, _ = resolve.resolve_settings(built, listing, place)
    return network._replace(pretrained=network.pretrained or weights == "imagenet")


def _data(asked: Config, listing: Listing, size: int) -> tuple[Splits, float]:
    """The splits of the run, and pictures decoded a second; everything is audited where that is done soon."""
    count = len(listing.ids)
    with stderr_filter.without_notices():
        rate = _decoding_speed(listing, size)
        if count / rate <= AUDIT_SECONDS:
            with console.progress("audit", count) as advance:
                checked, _ = audit(listing, size, advance, None)
        else:
            console.say(f"audit: left to the run; {count:,} files would take about {duration(count / rate)}")
            checked = _hashed(listing)
    fractions = asked.val_fraction, asked.test_fraction
    return splits.make_splits(checked, None, *fractions, asked.seed, asked.per_class_limit), rate


def _decoding_speed(listing: Listing, size: int) -> float:
    """Pictures read and decoded a second."""
    count = len(listing.ids)
    seconds = []
    # The first of the two is for what an audit takes before its first picture.
    for wanted in (1, min(SAMPLE, count)):
        rows = np.unique(np.arange(wanted) * count // wanted)
        started = time.monotonic()
        audit(_part(listing, rows), size, lambda _: None, None)
        seconds.append(time.monotonic() - started)
    return min(SAMPLE, count) / max(seconds[1] - seconds[0], 0.05 * seconds[1])


def _part(listing: Listing, rows: np.ndarray) -> Listing:
    """The listing of some of the files."""
    chosen = {name: getattr(listing, name)[rows] for name in ("ids", "labels", "split_names")}
    return replace(listing, **chosen, read=lambda index: listing.read(int(rows[index])))


def _hashed(listing: Listing) -> Listing:
    """The listing with the digests that splits are carved by, without those files that cannot be read."""
    digests, good = np.full(len(listing.ids), "", dtype="<U64"), np.ones(len(listing.ids), bool)
    with console.progress("reading", len(good)) as advance:
        for index in range(len(good)):
            try:
                digests[index] = hashlib.sha256(listing.read(index)).hexdigest()
            except OSError:
                good[index] = False
            advance(1)
    # Nothing is decoded, so only equal bytes are known to be equal pictures.
    return listing.without_rejected(good, digests, digests)


def _show_data(data: Splits) -> None:
    counts = data.counts()
    names = sorted(counts["train"], key=lambda name: -counts["train"][name])
    rows = [(name, *(f"{counts[part].get(name, 0):,}" for part in SPLITS)) for name in names[:MAX_CLASSES]]
    if len(names) > MAX_CLASSES:
        rows.append((f"({len(names) - MAX_CLASSES} more)", "", "", ""))
    rows.append(("pictures", *(f"{len(getattr(data, part)):,}" for part in SPLITS)))
    thing = "target" if data.task == "regression" else "class"
    console.say(f"data: {data.name}, {data.task}, {len(data.classes)} {thing}{_plural(thing, len(data.classes))}")
    # Line by line, for `say` escapes what would end one.
    for line in columns((thing, *SPLITS), rows, right=SPLITS).splitlines():
        console.say(line)
    kinds = Counter(f"{finding.kind.replace('_', ' ')} ({finding.verdict})" for finding in data.findings)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    console.say(f"findings: {found or 'nothing amiss'}")
    findings.show(data.findings, max_lines=5)


def _plural(word: str, count: int) -> str:
    return "" if count == 1 else "es" if word.endswith("s") else "s"


def _show_settings(asked: Config, name: str) -> None:
    changed = [
        shlex.quote(f"--{item.name}={getattr(asked, item.name)}")
        for item in fields(asked)
        if getattr(asked, item.name) != configs.FIELDS[item.name].default
    ]
    console.say(f"settings: {' '.join(changed) or 'the defaults'}")
    open_ = [name for name in MEASURED if getattr(asked, name) in ("auto", None)]
    if open_:
        console.say(f"measured when the run begins: {', '.join(open_)}")
    folder = Path(asked.run_dir or f"runs/{name}-{asked.digest()}")
    finished = asked.resume and (folder / "metrics.json").is_file()
    console.say(f"run folder: {folder}{', which is finished: the run would only read it' if finished else ''}")
    console.say(f"export: {Path(asked.export_dir) / name}/VERSION")


def _show_time(network: Network, planned: list[Phase], data: Splits, speed: float, decoded: float) -> None:
    counts = [len(getattr(data, part)) for part in SPLITS]
    certain = [phase for phase in planned if not phase.conditional]
    passes = sum(forward_passes(network, phase, *counts[:2]) for phase in certain)
    scored = 2 * sum(counts[1:])  # once with Keras, once through the export
    seconds = sum(counts) / decoded + (passes + scored) / speed
    console.say(
        f"expected time: about {duration(seconds)}, without start-up and saving. This counts {passes + scored:,.0f} forward "
        f"passes at {speed:,.0f} pictures a second and {sum(counts):,} pictures decoded at {decoded:,.0f} a second, both "
        f"measured now. A training step counts as {auto.FORWARD_PASSES_PER_STEP:g} forward passes."
    )
    if conditional := sum(forward_passes(network, phase, *counts[:2]) for phase in planned if phase.conditional):
        console.say(
            f"a further phase, if the one before gains much, would take about {duration(conditional / speed)} more"
        )


def forward_passes(network: Network, phase: Phase, train: int, val: int) -> float:
    """The work of a phase, in forward passes of the whole network over one picture.

    Args:
        train, val: pictures of these splits.
    """
    parts = (
        None
        if phase.views == 0 or phase.image_size not in (None, network.size)
        else phase_inputs.split_at_cut(network, phase)
    )
    whole = phase_inputs.count_macs(network.model)
    frozen = phase_inputs.count_macs(parts[0]) / whole if parts else 0.0
    trained = auto.FORWARD_PASSES_PER_STEP * ((phase.image_size or network.size) / network.size) ** 2
    if parts is None and phase.freezes and (found := phase_inputs.split_at_cut(network, phase)):
        # Computed anew each epoch: the frozen part goes forward only.
        share = phase_inputs.count_macs(found[0]) / whole
        trained *= 1 - share + share / auto.FORWARD_PASSES_PER_STEP
    views = phase.views or (min(phase_inputs.MIN_CACHED_AUGMENTATIONS, phase.epochs) if phase.augment else 1)
    ahead = frozen * (views * train + val) if parts else val
    if phase.epochs == 0:  # the head is solved on the features of all pictures
        return frozen * (train + val)
    return ahead + phase.epochs * (1 - frozen) * (trained * train + val)


def _forward_speed(network: Network) -> float:
    """Pictures a second of a forward pass, over random pictures."""
    rng = np.random.default_rng(0)
    batch = rng.uniform(0, 255, (TIMED_BATCH, network.size, network.size, 3)).astype(np.float32)
    predict = scoring.make_predictor(network.model)
    predict([batch])
    best, began = math.inf, time.monotonic()
    while time.monotonic() - began < TIMED_SECONDS:
        started = time.monotonic()
        predict([batch])
        best = min(best, time.monotonic() - started)
    return TIMED_BATCH / best
