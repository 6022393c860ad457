"""The settings of a run that are about its images: the first fields of the Config."""

from dataclasses import dataclass

from kerasft.settings.fields import flag


@dataclass(frozen=True)
class DataSettings:
    """Which images a run reads, how they are split, framed and augmented. `Config` adds the other settings."""

    data: str = flag(
        "digits",
        "data",
        "The images and labels: digits (embedded); generated:CLASSESxIMAGES, images that are made by formulas; folder:DIR with one subfolder for each class, or with train/, val/ and test/ that have these subfolders; csv:FILE with columns path,label[,split] (a|b is two labels), or path and columns of numbers; tfds:NAME[/CONFIG][:VERSION], or tfds:DIR of a dataset that TFDS has prepared.",
    )
    task: str = flag(
        "auto",
        "data",
        "The kind of labels. auto infers it from the data: a csv with | in a label is multi_label, a csv with numbers that are not all whole is regression.",
        choices=("auto", "single_label", "multi_label", "regression"),
    )
    splits: str = flag(
        "",
        "data",
        "For tfds: the TFDS splits that make up train, val and test, such as train=train[:80%]; val=train[80%:]; test=test.",
    )
    val_fraction: float = flag(
        0.2, "data", "Fraction of the training images for the validation split, if there is none.", low=0.01, high=0.9
    )
    test_fraction: float = flag(
        0.2, "data", "Fraction of the training images for the test split, if there is none.", low=0.01, high=0.9
    )
    per_class_limit: int | None = flag(
        None, "data", "Train on at most so many images of each class. val and test stay whole.", low=1, high=2**31 - 1
    )
    group_column: str = flag(
        "", "data", "For csv: the column of groups, such as patients. No group stands on two sides of a split."
    )
    group_pattern: str = flag(
        "", "data", "A regular expression on paths whose first (group) names the group, such as 'patient(\\d+)'."
    )
    exclude: str = flag(
        "", "data", "Images that are not used: a .csv with a column path, such as suspects.csv, or one path a line."
    )
    sampling: str = flag(
        "uniform",
        "data",
        "uniform: each training image once an epoch. balanced: each class equally often (single_label only).",
        choices=("uniform", "balanced"),
    )
    class_weights: str = flag(
        "none",
        "data",
        "balanced: weight the loss of each image by the inverse frequency of its class.",
        choices=("none", "balanced"),
    )
    bad_images: str = flag(
        "skip",
        "data",
        "What to do with unreadable images. skip: list them and train without them. fail: list them and stop.",
        choices=("skip", "fail"),
    )
    image_size: int | None = flag(
        None,
        "data",
        "Images are resized to this side, in pixels. Default: the backbone's own; less for small images: four times the median of their shorter sides, rounded up to a multiple of 32, at least 64.",
        low=16,
        high=2048,
    )
    framing: str = flag(
        "auto",
        "data",
        "How images become square. crop: the largest centred square. pad: the whole image, with grey bars. squash: the whole image, stretched or compressed to the square. auto: crop where images are nearly square, else what a probe on training images finds best.",
        choices=("auto", "crop", "pad", "squash"),
    )
    batch_size: int | None = flag(
        None,
        "data",
        "Images in a training step. Default: 32; 64 to 256 if there are many images and a GPU is measured to be much faster with it.",
        low=1,
        high=65536,
    )
    augment: str = flag(
        "auto",
        "data",
        "The augmentation of training images, such as crop(area=(0.35, 1)) | flip | rotate(15) | color(0.2) | randaugment(2, 9) | erase(0.25) | mixup(0.2); or none. auto: crop(area=(0.35, 1)), and flip if a probe shows that mirroring is harmless. Geometric: crop, flip, rotate, shear, translate, zoom. Color: brightness, color, contrast, hue, saturation. Pointwise: autocontrast, equalize, gamma, invert, posterize, solarize. Policies: autoaugment, augmix, randaugment, trivialaugment. Erasing: erase. Noise: noise. Mixing of images and labels: cutmix, mixup. docs/augmentation.md has the arguments.",
        spec="many",
    )
