"""Networks that PixelRT trains and ships. Any other `nn.Module` exports just as well."""

from __future__ import annotations

from pixelrt_export.models.dcgan import ConditionalGenerator, DCGANGenerator
from pixelrt_export.models.pix2pix import Pix2PixGenerator
from pixelrt_export.models.road_unet import RoadUNet
from pixelrt_export.models.spade import SPADEGenerator
from pixelrt_export.models.unet import UNet, classic_unet
from pixelrt_export.models.vae import VAE

__all__ = [
    "VAE",
    "ConditionalGenerator",
    "DCGANGenerator",
    "Pix2PixGenerator",
    "RoadUNet",
    "SPADEGenerator",
    "UNet",
    "classic_unet",
]
