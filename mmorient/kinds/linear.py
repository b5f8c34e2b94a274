"""Linear models on standardised features: what a model's answers have to beat."""

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# Strengths that inner folds of the training rows choose among.
INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STRENGTHS = (1e1, 1e2, 1e3, 1e4)
FOLDS = 3


def classify(features: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Classes (queries,) by logistic regression with balanced classes, chosen by macro-F1.

    Args:
        features: (rows, d) of the training rows.
        labels: (rows,) their classes, each known.
        queries: (queries, d).
    """
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2:
        return np.full(len(queries), labels[0])
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), regression)
    folds = min(FOLDS, int(counts.min()))
    if folds < 2:  # a class with a single row is in no two folds
        return np.asarray(model.fit(features, labels).predict(queries))
    grid = {"logisticregression__C": INVERSE_STRENGTHS}
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, scoring="f1_macro", cv=split)
    return np.asarray(search.fit(features, labels).predict(queries))


def regress(features: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Values (queries,) by ridge regression, chosen by the mean absolute error; see `classify`."""
    if len(values) < FOLDS:
        return np.full(len(queries), values.mean())
    model = make_pipeline(StandardScaler(), Ridge())
    split = KFold(FOLDS, shuffle=True, random_state=0)
    search = GridSearchCV(model, {"ridge__alpha": STRENGTHS}, scoring="neg_mean_absolute_error", cv=split)
    return np.asarray(search.fit(features, values).predict(queries))
