"""The models, each by its name. They are scikit-learn estimators: `fit(rows, values)`, `predict(rows)`."""

from __future__ import annotations

from typing import Any, Literal, get_args

from sklearn.ensemble import HistGradientBoostingRegressor, VotingRegressor
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ModelName = Literal["ridge", "boosting", "mlp", "blend"]
NAMES: tuple[ModelName, ...] = get_args(ModelName)


def build(name: ModelName, *, alpha: float, seed: int) -> Any:
    """A model that was not fitted yet. ``alpha`` is the weight of its L2 penalty, in the model's own terms."""
    if name == "ridge":
        return make_pipeline(StandardScaler(), Ridge(alpha))
    if name == "boosting":
        return HistGradientBoostingRegressor(
            max_iter=80,
            learning_rate=0.06,
            max_leaf_nodes=6,
            min_samples_leaf=40,
            l2_regularization=alpha,
            random_state=seed,
        )
    if name == "mlp":
        # One small net depends much on where it starts; the mean of three much less.
        return VotingRegressor([(f"net{i}", _net(alpha, seed + i)) for i in range(3)])
    return VotingRegressor([(part, build(part, alpha=alpha, seed=seed)) for part in ("ridge", "boosting", "mlp")])


def _net(alpha: float, seed: int) -> Any:
    # L-BFGS ends at its bound on purpose: on a thousand noisy days, stopping early is part of the regularisation.
    net = MLPRegressor(hidden_layer_sizes=(16,), solver="lbfgs", alpha=alpha, max_iter=60, random_state=seed)
    return make_pipeline(StandardScaler(), net)
