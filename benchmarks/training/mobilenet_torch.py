"""MobileNetV1 in torch with Keras' weights, for rivals that are written in torch.

`dump` runs where Keras is: it writes the weights, a few images and their features. `build` and `largest_difference` run
where torch is, and need neither Keras nor h5py.
"""

from pathlib import Path

import numpy as np

# Of each depthwise block; the first convolution has a stride of 2 too.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
EPSILON = 1e-3


def dump(weights: Path, alpha: float, images: list[Path], out: Path) -> None:
    """Writes the arrays of Keras' MobileNet, images [N, 224, 224, 3] uint8 and their pooled features [N, C] float32."""
    import keras

    model = keras.applications.MobileNet(
        alpha=alpha, include_top=False, weights=str(weights), input_shape=(224, 224, 3)
    )
    loaded = [keras.utils.load_img(path, target_size=(224, 224), interpolation="bilinear") for path in images]
    pixels = np.stack([np.asarray(image, np.uint8) for image in loaded])
    arrays = {variable.path: variable.numpy() for variable in model.weights}
    features = model(pixels / np.float32(127.5) - 1, training=False).numpy().mean((1, 2))
    np.savez(out, images=pixels, features=features, **arrays)


def build(arrays: dict):
    """Gives the network as torch modules; it takes float32 [N, 3, H, W] in -1..1, H and W multiples of 32."""
    import torch
    from torch import nn

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(arrays[name]))

    def block(name: str, stride: int, depthwise: bool = False) -> nn.Sequential:
        # Keras stores kernels as [H, W, in, out], those of depthwise layers as [H, W, in, 1].
        kernel = tensor(f"{name}/kernel").permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        outputs, side = kernel.shape[0], kernel.shape[-1]
        groups = outputs if depthwise else 1
        padding = 0 if stride == 2 else side // 2
        convolution = nn.Conv2d(kernel.shape[1] * groups, outputs, side, stride, padding, groups=groups, bias=False)
        norm = nn.BatchNorm2d(outputs, eps=EPSILON)
        with torch.no_grad():
            convolution.weight.copy_(kernel)
            norm.weight.copy_(tensor(f"{name}_bn/gamma"))
            norm.bias.copy_(tensor(f"{name}_bn/beta"))
            norm.running_mean.copy_(tensor(f"{name}_bn/moving_mean"))
            norm.running_var.copy_(tensor(f"{name}_bn/moving_variance"))
        layers = [convolution, norm, nn.ReLU6(inplace=True)]
        # With a stride of 2 and an even side, Keras pads at the right and at the bottom only.
        return nn.Sequential(*([nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []), *layers)

    blocks = [block("conv1", 2)]
    for number, stride in enumerate(STRIDES, 1):
        blocks += [block(f"conv_dw_{number}", stride, depthwise=True), block(f"conv_pw_{number}", 1)]
    return nn.Sequential(*blocks)


def largest_difference(arrays: dict) -> float:
    """Gives the greatest absolute difference of torch's pooled features to those that Keras computed of the same images."""
    import torch

    pixels = torch.from_numpy(arrays["images"].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = build(arrays).eval()(pixels).mean((2, 3)).numpy()
    return float(np.abs(features - arrays["features"]).max())
