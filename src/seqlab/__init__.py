"""seqlab: a laboratory for sequence models. Every model is one way of writing P(x_t | x_1, ..., x_{t-1})."""

__version__ = "0.2.0"
