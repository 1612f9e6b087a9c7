"""Convolution adapters: small 1x1 convolutions beside those of a ResNet, or after its blocks."""
