"""TF-IDF of words and of characters, then logistic regression: text classification's standard (scikit-learn).

Salton and Buckley (1988), term weighting; Wang and Manning (2012), Baselines and bigrams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Len

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.classifier import DirectClassifier, labels_of, log_loss, log_softmax
from seqlab.settings import Count, PositiveList

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

BYTES = 256  # symbols of an alphabet that is bytes of UTF-8
PRIVATE_USE = 0xF0000  # where Unicode has room for an alphabet that is not text
TOKEN = r"(?u)\b\w+\b"
ITERATIONS = 1000  # most of the regression's optimiser


class TfIdf(DirectClassifier):
    """words, characters: least and greatest length of the n-grams of each; characters do not cross words. rarest:
    training texts that must hold a term. strengths: candidates for the inverse penalty; the least log loss on
    validation chooses.

    An alphabet of 256 is read as UTF-8. Any other has no words, and its symbols are the characters.
    """

    fitted_by = "closed_form"
    kinds = ("symbols",)
    tasks = ("classify",)
    objectives = ()

    def __init__(
        self,
        space: Space,
        classes: int,
        *,
        words: Annotated[list[Count], Len(2, 2)],
        characters: Annotated[list[Count], Len(2, 2)],
        rarest: Count,
        strengths: PositiveList,
    ):
        super().__init__(space, classes)
        for name, span in (("words", words), ("characters", characters)):
            if span[0] > span[1]:
                raise UserError(f"{name}: {span}; expected the least and the greatest length of n-grams")
        self.words, self.characters, self.rarest, self.strengths = words, characters, rarest, strengths

    def vectorisers(self, vocabularies: Sequence[list[str] | None]) -> list[TfidfVectorizer]:
        """Of words and of characters; of characters alone where symbols are no text. None: to be learned."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        text = self.space.size == BYTES
        kinds: list[dict[str, Any]] = [{"analyzer": "char_wb" if text else "char", "ngram_range": self.characters}]
        if text:
            kinds.insert(0, {"token_pattern": TOKEN, "ngram_range": self.words})
        return [
            TfidfVectorizer(
                **(kind | {"ngram_range": tuple(kind["ngram_range"])}),
                sublinear_tf=True,
                min_df=1 if vocabulary else self.rarest,
                vocabulary=vocabulary,
            )
            for kind, vocabulary in zip(kinds, vocabularies[: len(kinds)], strict=True)
        ]

    def fit(self, train: Sequences, valid: Sequences, prior: None = None) -> dict[str, Any]:
        from sklearn.linear_model import LogisticRegression

        labels, held_out = labels_of(train, "training", self.classes), labels_of(valid, "validation", self.classes)
        self.vectors = self.vectorisers([None, None])
        own, other = self._texts_of(train), self._texts_of(valid)
        try:
            for vectoriser in self.vectors:
                vectoriser.fit(own)
        except ValueError as error:  # no term is left
            raise UserError(f"training split: {str(error).partition(';')[0]}; lower `rarest`") from None
        features, found = self._features(own), []
        for strength in self.strengths:
            model = LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, labels)
            binary = self.classes == 2  # of which scikit-learn keeps one row, the second's
            self.coefficients = np.concatenate([0 * model.coef_, model.coef_]) if binary else model.coef_
            self.intercept = np.concatenate([[0.0], model.intercept_]) if binary else model.intercept_
            loss = log_loss(self._log_prob(other), held_out)
            found.append((loss, strength, self.coefficients, self.intercept, int(model.n_iter_.max())))
        loss, strength, self.coefficients, self.intercept, self.passed = min(found, key=lambda one: one[0])
        return {
            "terms": [len(vectoriser.vocabulary_) for vectoriser in self.vectors],
            "candidates": [{"strength": strength, "valid_log_loss": loss} for loss, strength, *_ in found],
            "chosen": {"strength": strength, "valid_log_loss": loss},
        }

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._log_prob([self._text(row[exists]) for row, exists in zip(x, mask, strict=True)])

    def _log_prob(self, texts: list[str]) -> np.ndarray:
        return log_softmax(self._features(texts) @ self.coefficients.T + self.intercept)

    def _features(self, texts: list[str]) -> csr_matrix:
        from scipy.sparse import hstack

        return hstack([vectoriser.transform(texts) for vectoriser in self.vectors]).tocsr()

    def _texts_of(self, sequences: Sequences) -> list[str]:
        return [self._text(values) for values in sequences]

    def _text(self, symbols: np.ndarray) -> str:
        if self.space.size == BYTES:
            return symbols.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return "".join(chr(PRIVATE_USE + symbol) for symbol in symbols.tolist())

    def state(self) -> dict[str, np.ndarray]:
        """Coefficients, and of each vectoriser its terms (UTF-8, a line each, in order) and their IDF."""
        found = {"coefficients": self.coefficients, "intercept": self.intercept}
        for i, vectoriser in enumerate(self.vectors):
            terms = "\n".join(vectoriser.get_feature_names_out())  # no term holds white space but a blank
            found |= {f"{i}.terms": np.frombuffer(terms.encode(), np.uint8), f"{i}.idf": vectoriser.idf_}
        return found

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.coefficients, self.intercept = np.array(state["coefficients"]), np.array(state["intercept"])
        kinds = [i for i in range(2) if f"{i}.terms" in state]
        self.vectors = self.vectorisers([state[f"{i}.terms"].tobytes().decode().split("\n") for i in kinds])
        for i, vectoriser in zip(kinds, self.vectors, strict=True):
            vectoriser.idf_ = np.array(state[f"{i}.idf"])

    def flops(self, train: Sequences) -> float:
        """An addition a length of n-gram and position, three operations a term of a text for its weight, and of each
        pass of the regression four products a term and class: scores and gradient."""
        features = self._features(self._texts_of(train))
        lengths = sum(1 + vectoriser.ngram_range[1] - vectoriser.ngram_range[0] for vectoriser in self.vectors)
        rows = 1 if self.classes == 2 else self.classes
        return float(lengths * len(train.values) + (3 + 4 * rows * self.passed) * features.nnz)

    @property
    def parameters(self) -> int:
        """Coefficients and intercepts, of which two classes have one set, and the terms' weights."""
        rows = 1 if self.classes == 2 else self.classes
        terms = int(self.coefficients.shape[1])
        return rows * (terms + 1) + terms
