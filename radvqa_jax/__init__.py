"""radvqa_jax: adapt PaliGemma to radiological visual question answering, in JAX."""

__version__ = "0.1.0"
