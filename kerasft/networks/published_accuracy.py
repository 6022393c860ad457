"""Published figures of the backbones, and whether their weights are on this machine. Needs no TensorFlow.

Top-1 accuracies on ImageNet's validation set are those of the table "Available models" of keras.io/api/applications. Every
figure was compared in November 2026: those of the rows Xception to EfficientNetV2L with the source of that page
(`templates/api/applications/index.md` in github.com/keras-team/keras-io, commit e7be306), those of ConvNeXt, which that
commit lacks, with a copy of the page in another repository. No figure differed. The table has no row for MobileNetV3 and
for an `alpha` below 1. Parameters, sizes and file names are those that Keras 3.15 builds and looks for. A test compares them.
"""

import os
from pathlib import Path
from typing import NamedTuple


class Published(NamedTuple):
    """One backbone.

    Attributes:
        name: as `--backbone` takes it.
        parameters: without the classifier.
        size: side in pixels of the images that its weights were trained on.
        top1: accuracy on ImageNet in percent; None where Keras's documentation gives none.
        file: of its ImageNet weights without the classifier, as Keras names it.
    """

    name: str
    parameters: int
    size: int
    top1: float | None
    file: str


BACKBONES = (  # from the smallest to the largest
    Published("MobileNet(alpha=0.25)", 218_544, 224, None, "mobilenet_2_5_224_tf_no_top.h5"),
    Published(
        "MobileNetV2(alpha=0.35)",
        410_208,
        224,
        None,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
    ),
    Published(
        "MobileNetV2(alpha=0.5)",
        706_224,
        224,
        None,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5",
    ),
    Published("MobileNet(alpha=0.5)", 829_536, 224, None, "mobilenet_5_0_224_tf_no_top.h5"),
    Published("MobileNetV3Small", 939_120, 224, None, "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
    Published(
        "MobileNetV2(alpha=0.75)",
        1_382_064,
        224,
        None,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.75_224_no_top.h5",
    ),
    Published("MobileNet(alpha=0.75)", 1_832_976, 224, None, "mobilenet_7_5_224_tf_no_top.h5"),
    Published("MobileNetV2", 2_257_984, 224, 71.3, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
    Published("MobileNetV3Large", 2_996_352, 224, None, "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5"),
    Published("MobileNet", 3_228_864, 224, 70.4, "mobilenet_1_0_224_tf_no_top.h5"),
    Published("EfficientNetB0", 4_049_571, 224, 77.1, "efficientnetb0_notop.h5"),
    Published("NASNetMobile", 4_269_716, 224, 74.4, "nasnet_mobile_no_top.h5"),
    Published("EfficientNetV2B0", 5_919_312, 224, 78.7, "efficientnetv2-b0_notop.h5"),
    Published("EfficientNetB1", 6_575_239, 240, 79.1, "efficientnetb1_notop.h5"),
    Published("EfficientNetV2B1", 6_931_124, 240, 79.8, "efficientnetv2-b1_notop.h5"),
    Published("DenseNet121", 7_037_504, 224, 75.0, "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("EfficientNetB2", 7_768_569, 260, 80.1, "efficientnetb2_notop.h5"),
    Published("EfficientNetV2B2", 8_769_374, 260, 80.5, "efficientnetv2-b2_notop.h5"),
    Published("EfficientNetB3", 10_783_535, 300, 81.6, "efficientnetb3_notop.h5"),
    Published("DenseNet169", 12_642_880, 224, 76.2, "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("EfficientNetV2B3", 12_930_622, 300, 82.0, "efficientnetv2-b3_notop.h5"),
    Published("VGG16", 14_714_688, 224, 71.3, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("EfficientNetB4", 17_673_823, 380, 82.9, "efficientnetb4_notop.h5"),
    Published("DenseNet201", 18_321_984, 224, 77.3, "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("VGG19", 20_024_384, 224, 71.3, "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("EfficientNetV2S", 20_331_360, 384, 83.9, "efficientnetv2-s_notop.h5"),
    Published("Xception", 20_861_480, 299, 79.0, "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("InceptionV3", 21_802_784, 299, 77.9, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ResNet50V2", 23_564_800, 224, 76.0, "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ResNet50", 23_587_712, 224, 74.9, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ConvNeXtTiny", 27_820_128, 224, 81.3, "convnext_tiny_notop.h5"),
    Published("EfficientNetB5", 28_513_527, 456, 83.6, "efficientnetb5_notop.h5"),
    Published("EfficientNetB6", 40_960_143, 528, 84.0, "efficientnetb6_notop.h5"),
    Published("ResNet101V2", 42_626_560, 224, 77.2, "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ResNet101", 42_658_176, 224, 76.4, "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ConvNeXtSmall", 49_454_688, 224, 82.3, "convnext_small_notop.h5"),
    Published("EfficientNetV2M", 53_150_388, 480, 85.3, "efficientnetv2-m_notop.h5"),
    Published(
        "InceptionResNetV2", 54_336_736, 299, 80.3, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    Published("ResNet152V2", 58_331_648, 224, 78.0, "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("ResNet152", 58_370_944, 224, 76.6, "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Published("EfficientNetB7", 64_097_687, 600, 84.3, "efficientnetb7_notop.h5"),
    Published("NASNetLarge", 84_916_818, 331, 82.5, "nasnet_large_no_top.h5"),
    Published("ConvNeXtBase", 87_566_464, 224, 85.3, "convnext_base_notop.h5"),
    Published("EfficientNetV2L", 117_746_848, 480, 85.7, "efficientnetv2-l_notop.h5"),
    Published("ConvNeXtLarge", 196_230_336, 224, 86.3, "convnext_large_notop.h5"),
    Published("ConvNeXtXLarge", 348_147_968, 224, 86.7, "convnext_xlarge_notop.h5"),
)


def weights_folder() -> Path:
    """Where Keras keeps the weights that it has downloaded: below `KERAS_HOME`, else below `~/.keras`, else below `/tmp/.keras`."""
    if home := os.environ.get("KERAS_HOME"):
        return Path(home) / "models"
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras" / "models"


def is_here(backbone: Published) -> bool:
    """Whether Keras finds the ImageNet weights of a backbone on this machine."""
    return (weights_folder() / backbone.file).is_file()


def must_download(name: str) -> bool:
    """Whether no ImageNet weights of a backbone are on this machine; False for one that is not listed here.

    Args:
        name: as `--backbone` takes it. MobileNets have a file for each size of images; any of them counts.
    """
    found = next((backbone for backbone in BACKBONES if backbone.name.lower() == name.lower()), None)
    return found is not None and not any(weights_folder().glob(found.file.replace(f"_{found.size}_", "_*_")))
