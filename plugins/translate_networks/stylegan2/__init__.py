"""Style-based networks: those of StyleGAN2, and a generator that translates images with the same layers.

layers.py           convolutions that a style modulates, noise, resampling with a blur, minibatch stddev
synthesis.py        latents -> styles -> images
discriminator.py    images -> raw scores
generator.py        images -> images

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020,
arXiv:1912.04958 (StyleGAN2); conditioning from Karras et al., Training Generative Adversarial Networks with Limited
Data, NeurIPS 2020, arXiv:2006.06676 (StyleGAN2-ADA).

Deviations:

- A modulated convolution scales its input and output channels, as section 2.2 derives it, and not the weights of each
  image. The result is the same; weights for each image took three times as long on a CPU.
- The gain √2 of a leaky ReLU and the gain √½ of a residual sum are part of the weights' factor, which saves a pass.
- The RGB images of lower resolutions are enlarged bilinearly. This is the filter [1, 3, 3, 1] except at the borders,
  where it repeats the outermost pixels instead of using zeros.
- Widths are stated at full resolution and double up to 8 × there, as in the other networks here.

Under mixed precision, convolutions run in bf16; demodulation and the statistics of a batch run in float32.
"""
