"""The settings of a run: one frozen dataclass, from which the flags are made.

Imports no TensorFlow, so that `--help` and a mistyped flag are answered at once.
"""

import hashlib
import json
import os
import typing
from dataclasses import asdict, dataclass, fields

from kerasft.settings import backbone_list
from kerasft.settings.data_settings import DataSettings
from kerasft.settings.errors import UserError
from kerasft.settings.fields import check, flag, parse
from kerasft.settings.spec import Spec


@dataclass(frozen=True)
class Config(DataSettings):
    """What to train, on what, and how; every field is also a flag of the same name.

    Raises:
        UserError: a value of the wrong type, out of its range, or a Spec that cannot be read.
    """

    backbone: str = flag(
        "auto",
        "model",
        "The pretrained network: a keras.applications constructor with arguments (weights= names its own weights), a .keras or .h5 file, or hub:PRESET_OR_DIR of KerasHub. Several, such as MobileNetV2 | EfficientNetV2B0: a probe on the training images chooses. auto: chooses from a short list of networks whose ImageNet weights can be had; MobileNet(alpha=0.25) for the embedded data, or where --weights is not imagenet.",
        spec="backbones",
    )
    weights: str = flag(
        "auto",
        "model",
        "The pretrained weights of the backbone: imagenet (downloaded once by Keras), bundled (for MobileNet(alpha=0.25); in the package, trained without photographs), none (random weights), or a weights file. auto: bundled for the embedded data (digits, generated) if it fits the backbone, else imagenet.",
    )
    preprocessing: str = flag(
        "auto",
        "model",
        "How pixels are scaled before the backbone: auto (as the backbone was pretrained), the name of another family such as densenet (also for a saved model that does not scale them itself), or dataset (by mean and standard deviation of the training images).",
    )
    surgery: str = flag(
        "none",
        "model",
        "Changes of the backbone that keep its weights, in order: activation(relu=swish, blocks=0.5), other activations in the last half of the blocks, with blend=500 step by step; truncate(0.8), the last blocks dropped; prune(0.3, per=channels or flops), the weakest channels removed; fold_batchnorm; stochastic_depth(0.1) and dropout(0.1, blocks=0.5), in training only. docs/surgery.md explains each.",
        spec="many",
    )
    features: str = flag(
        "auto",
        "model",
        "How many depths of the backbone the head sees by their pooled activations: last (its output), a number of depths counted from there, or all. auto chooses by cross-validation on the training images.",
    )
    tta: str = flag(
        "none",
        "model",
        "Test-time augmentation, in evaluation and in the export. flip: the mean of the outputs for an image and its mirror image, in twice the time. auto: flip if that lowers the validation loss by more than its standard error.",
        choices=("none", "flip", "auto"),
    )
    abstain: str = flag(
        "none",
        "model",
        "What the served model says of images of an unknown kind: distance(keep=0.95), the cosine distance of the pooled features to the nearest training image; energy(keep=0.95), by the logits (single_label only); auto(keep=0.95), which is distance. It adds novelty and known to the signatures. keep is the share of validation images that are known. docs/unknowns.md has what they find.",
        spec="many",
    )
    coverage: float | None = flag(
        None,
        "model",
        "Conformal prediction: the fraction of images whose answer is to hold the truth, such as 0.9. It adds label_set (single_label), or lower and upper (regression) to the signatures.",
        low=0.01,
        high=0.9999,
    )
    head: str = flag(
        "linear",
        "model",
        "The layers on top of the backbone: linear(pooling='avg', dropout=0), or mlp(units=(256,), activation='gelu', dropout=0.2, normalisation='none', pooling='avg', hidden_init='glorot_uniform'). pooling is avg, max or gem. normalisation is none, batch or layer.",
        spec="one",
    )
    head_init: str = flag(
        "auto",
        "model",
        "Initial weights of the head's last layer: probe (logistic or ridge regression on frozen features), zeros, prior (bias from the class frequencies), or a Keras initializer. auto: probe, or glorot_uniform without pretrained weights.",
        spec="one",
    )
    phases: str = flag(
        "auto",
        "training",
        "The training phases in order, such as head(epochs=5, lr=1e-3) | top(unfreeze=0.5, epochs=5, lr=1e-4) | all(epochs=10, lr=1e-5, image_size=192). auto chooses all phases, or those between others (head(epochs=5) | auto | quantised). Strategies: head; top(unfreeze=0.5), the last blocks; all; gradual(stages=4, epochs=2), from the head down; bias and norm, only offsets or only normalisation; lora(rank=8, alpha=16), low-rank updates; adapter(reduction=8), bottlenecks that stay; surgical(blocks=1), the blocks with the largest gradients; quantised(epochs=3, lr=1e-4), all layers as int8 computes them, at the end. Any phase may set optimizer, schedule, loss, augment, batch_norm (hold or train), views, image_size, conditional, stop_if_losing, head_lr (times the rate), layer_decay (of the rate, a block), l2sp (pull to the start), sam (radius), agc (limit of a gradient, relative to its weights). docs/strategies.md explains each.",
        spec="many",
    )
    optimizer: str = flag(
        "adamw",
        "training",
        "A keras.optimizers name with arguments, such as sgd(momentum=0.9). A phase may set its own.",
        spec="one",
    )
    loss: str = flag(
        "auto",
        "training",
        "cross_entropy(label_smoothing=0.1), focal(gamma=2), poly(epsilon=1), brier; for wrong labels symmetric(alpha=0.1, beta=1) or generalised(q=0.7); for rare classes class_balanced(beta=0.999); for classes in an order ordinal; for regression mse, mae, huber(delta=1), or pinball(quantile=0.9) for a quantile; or a loss of keras.losses for the task. auto: cross_entropy, or mse for regression. A phase may set its own.",
        spec="one",
    )
    schedule: str = flag(
        "cosine",
        "training",
        "The learning rate schedule of a phase: constant, cosine(warmup=0.1, floor=0), linear(warmup=0.1), polynomial(power=2, end=0, warmup=0.1), one_cycle, wsd(warmup=0.1, decay=0.2), step(at=(0.5, 0.75), factor=0.1), or plateau(factor=0.5, patience=2). A phase may set its own.",
        spec="one",
    )
    teacher: str = flag(
        "",
        "training",
        "A trained model whose answers are learned as well as the labels (knowledge distillation): the folder of a finished run, or a SavedModel that kerasft has exported. Several, such as 'runs/a | runs/b': the mean of their probabilities. Its classes must be those of the data. docs/distillation.md explains it.",
    )
    distill: str = flag(
        "logits",
        "training",
        "What is learned of --teacher: logits(temperature=2, weight=0.5), its probabilities at a temperature, which have this share of the loss; features(weight=1), its pooled features, in phases on images; or logits | features.",
        spec="many",
    )
    unlabelled: str = flag(
        "",
        "training",
        "Further images without labels, folder:DIR (at any depth; names of folders mean nothing). Phases with epochs train on them too, by the answers of --teacher alone. Copies of labelled images, and near duplicates of val and test, are left out. docs/distillation.md explains it.",
    )
    lr_scaling: str = flag(
        "auto",
        "training",
        "auto: the rates that --phases=auto chooses are for steps of 32 images, and are scaled for other batch sizes: in proportion for sgd, with the square root for other optimizers. none: they are not. Rates that you write are never scaled.",
        choices=("auto", "none"),
    )
    average: str = flag(
        "none",
        "training",
        "The weights that are evaluated and kept. none: those after the last step. ema(momentum=0.99): their exponential moving average over the steps. swa(last=0.25): the mean over the last steps of a phase, for a schedule such as constant. soup: the mean over the epochs that lower the validation loss together (greedy soup); also after another, such as ema | soup. soup(runs=('runs/a', 'runs/b')): finished runs on the same splits may become part of it.",
        spec="many",
    )
    patience: int | None = flag(
        None, "training", "A phase ends after so many epochs without a lower validation loss.", low=1, high=10**6
    )
    precision: str = flag(
        "auto",
        "training",
        "The dtype policy of the backbone: float32, mixed_bfloat16, or mixed_float16 (with loss scaling). auto measures which is faster, if the training is long enough to gain from it.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    jit: str = flag(
        "auto",
        "training",
        "Compile training steps with XLA: on or off. auto measures which is faster, if the run is long enough to gain from it.",
        choices=("auto", "on", "off"),
    )
    seed: int = flag(
        0, "training", "Seed of the splits, the order, the augmentation and the initial weights.", low=0, high=2**31 - 1
    )
    deterministic: bool = flag(False, "training", "The same seed gives bit-identical weights. Slower on a GPU.")
    budget_minutes: float | None = flag(
        None,
        "training",
        "train: minutes that the run may take, from start to finish. The phases that auto chooses get the epochs that fit; named phases are trained in full. tune: no new trial starts after so many minutes; the training of the best trial takes extra time. compare: an entry starts only if the longest one so far would still fit; the export of the best one takes extra time.",
        low=0.01,
        high=1e6,
    )
    cache_gb: float = flag(
        8.0,
        "training",
        "Size limit of the cache on disk, in gigabytes (10^9 bytes). It holds the outputs of the frozen layers, decoded images (at most half of it), and a teacher's answers. 0 for no cache.",
        low=0.0,
        high=1e6,
    )
    keep_cache: bool = flag(
        False, "output", "Keep the cache in --cache_dir, where later runs on the same images use it."
    )
    cache_dir: str = flag("runs/cache", "output", "The folder of the cache under --keep_cache, which it needs.")
    run_dir: str = flag(
        "", "output", "Folder of the run. Default: runs/NAME-DIGEST, of the data's name and a digest of the settings."
    )
    export_dir: str = flag(
        "saved_models",
        "output",
        "The SavedModel is written to NAME/VERSION in this folder. compress and a run that is finished take the default for the folder of the run.",
    )
    export: str = flag(
        "savedmodel",
        "output",
        "What is exported: savedmodel (always); for other runtimes litert(precision=float32, float16, dynamic or int8), onnx(precision=float32 or int8), openvino, keras(precision=int8 or int4) to store or send, into exports/NAME/VERSION next to saved_models, or inside another --export_dir. Each is proven on the test images. All but keras need kerasft[lite].",
        spec="many",
    )
    max_drop: float = flag(
        0.005,
        "output",
        "An artefact of lower precision is not published if its test accuracy (or mAP) is lower than the network's by more than this; under regression, if its error is larger by more than this many deviations.",
        low=0.0,
        high=1.0,
    )
    baseline: str = flag(
        "",
        "output",
        "A model that is served today, saved_models/NAME/VERSION or a run folder. The new model is compared with it on the test images, each through its exported signature: accuracy and loss with intervals, the classes that got worse, the images that flipped.",
    )
    gate: bool = flag(
        False,
        "output",
        "Do not publish the new model if it is worse than --baseline by more than one standard error of the paired difference: in accuracy, in loss, or in a class with at least 10 test images. The command then ends with status 1; the run folder keeps the model.",
    )
    robustness: str = flag(
        "none",
        "output",
        "Score the network on corrupted test images: noise, blur, JPEG, brightness, contrast, occlusion, rotation, scale, each at five strengths. quick: at most 128 test images. full: all of them, 45 passes; and under attack (FGSM, PGD) at most 64. docs/robustness.md has the strengths.",
        choices=("none", "quick", "full"),
    )
    boosted_trees: bool = flag(
        False,
        "output",
        "Fit gradient boosted trees (LightGBM) on the features of the frozen network too, as one more baseline in the report. They are not exported. They need kerasft[baselines].",
    )
    warmup: bool = flag(
        True,
        "output",
        "Add eight small, re-encoded validation images to the export. TensorFlow Serving warms up with them.",
    )
    resume: bool = flag(True, "output", "Resume an interrupted run. --noresume starts it again from the beginning.")
    tensorboard: bool = flag(True, "output", "Write TensorBoard logs to the run folder.")
    allow_imports: tuple[str, ...] = flag(
        (),
        "output",
        "Packages that a dotted name in a setting may be imported from. They are imported before a saved model in --backbone is loaded, for the classes that they register. Only on the command line.",
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, check(item, HINTS[item.name], getattr(self, item.name)))
        for name in PATHS:
            # A shell leaves `~` behind `=` as it is, and so does a flagfile.
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        for name in ("backbone", "teacher"):
            object.__setattr__(self, name, backbone_list.expand_home(getattr(self, name)))
        if self.features not in ("last", "auto", "all") and not (self.features.isdecimal() and int(self.features)):
            rule = "must be last, auto, all, or a number of depths of at least 1"
            raise UserError(f"--features: {rule}. Received: {self.features!r}")
        if self.gate and not self.baseline:
            raise UserError("--gate: needs --baseline=saved_models/NAME/VERSION, or a run folder. Received: --gate")
        # No field: what is written, compared and digested stays the text.
        written = [item for item in fields(self) if "spec" in item.metadata]
        parsed = {item.name: parse(item, getattr(self, item.name), self.allow_imports) for item in written}
        object.__setattr__(self, "_parsed", parsed)

    @property
    def has_embedded_data(self) -> bool:
        """Whether the images come with kerasft. `digits.csv` and `generated/` are files of the user."""
        return self.data == "digits" or self.data.startswith(("digits:", "generated:"))

    def specs(self, name: str) -> tuple[Spec, ...]:
        """The Specs of a field, parsed when the Config was made; none for `none`, and for files and presets in `--backbone`."""
        return self._parsed[name]

    def spec(self, name: str) -> Spec:
        """The Spec of a field that holds exactly one."""
        (found,) = self._parsed[name]
        return found

    def digest(self) -> str:
        """Eight hex digits that change with every setting that changes the result."""
        settings = {key: value for key, value in asdict(self).items() if key not in LOCATIONS}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


# These say where, and what else is measured; not what is learned. So they are no part of the digest.
LOCATIONS = ("run_dir", "export_dir", "warmup", "resume", "tensorboard", "keep_cache", "cache_dir")
LOCATIONS += ("baseline", "gate", "robustness")

# The paths to write to, of the model to compare with, and of a weights file.
PATHS = ("run_dir", "export_dir", "cache_dir", "baseline", "weights")

# These choose the images and their splits. Scores on other images cannot be compared.
SPLITTING = ("data", "task", "splits", "val_fraction", "test_fraction", "bad_images", "exclude")
SPLITTING += ("group_column", "group_pattern", "seed")

HINTS = typing.get_type_hints(Config)
FIELDS = {item.name: item for item in fields(Config)}
