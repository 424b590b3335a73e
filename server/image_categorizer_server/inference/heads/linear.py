"""A multinomial logistic regression on embeddings, with the loss of scikit-learn's.

    sum over examples of -weight[label] log softmax(W x + b)[label]  +  |W|² / 2C

The weights balance the categories: one with many examples, such as corrections of it, does not take
pictures from the others.  The minimum is that of `LogisticRegression(C=C, class_weight="balanced")`
of scikit-learn, found by the same method, L-BFGS.  SciPy is there for perceptual hashes;
scikit-learn would be another 40 MB.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from image_categorizer_server.inference.heads.examples import OTHER, Labelled, Vectors

C = 10.0
"""The inverse strength of the penalty: for embeddings of length 1."""
MAX_STEPS = 200
TOLERANCE = 1e-4
"""Of the gradient, as scikit-learn's."""


@dataclass(frozen=True, eq=False)
class Linear:
    """The weights."""

    weights: Vectors
    """float32 (K, D).  K is the number of categories, or one more: the last stands for none."""
    bias: Vectors
    """float32 (K,)."""

    def logits(self, vectors: Vectors) -> Vectors:
        """Returns logits, float32 (N, K)."""
        return vectors @ self.weights.T + self.bias


def fit_linear(
    examples: Labelled, c: float = C, weights: NDArray[np.float64] | None = None
) -> Linear:
    """Returns the regression of examples: at least one, of at least two classes.

    Args:
        examples: with labels.
        c: the inverse strength of the penalty.
        weights: float64 (N,), of the examples; None to balance the categories.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    has_others = bool((examples.labels == OTHER).any())
    count, size = examples.category_count + has_others, examples.vectors.shape[1]
    labels = np.where(examples.labels == OTHER, examples.category_count, examples.labels)
    wanted = np.zeros((len(examples), count), np.float32)
    wanted[np.arange(len(examples)), labels] = 1
    counts = np.bincount(labels, minlength=count)
    if weights is None:
        weights = len(examples) / (np.count_nonzero(counts) * counts[labels])
    balance = weights[:, None]
    vectors = examples.vectors

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(count, size + 1)
        matrix = parameters[:, :-1].astype(np.float32)
        logits = (vectors @ matrix.T).astype(np.float64) + parameters[:, -1]
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        totals = powers.sum(axis=1, keepdims=True)
        errors = (powers / totals - wanted) * balance
        gradient = np.empty_like(parameters)
        gradient[:, :-1] = errors.astype(np.float32).T @ vectors + parameters[:, :-1] / c
        gradient[:, -1] = errors.sum(axis=0)
        unlikely = ((np.log(totals[:, 0]) - (logits * wanted).sum(axis=1)) * balance[:, 0]).sum()
        penalty = (parameters[:, :-1] ** 2).sum() / (2 * c)
        return float(unlikely + penalty) / len(examples), gradient.ravel() / len(examples)

    start = np.zeros(count * (size + 1))
    options = {"maxiter": MAX_STEPS, "gtol": TOLERANCE}
    # Each step is short: threads that wait for one another take longer than one, on a busy machine
    # a hundred times as long.
    with threadpool_limits(1):
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    best = np.asarray(found.x, np.float32).reshape(count, size + 1)
    return Linear(np.ascontiguousarray(best[:, :-1]), best[:, -1].copy())
