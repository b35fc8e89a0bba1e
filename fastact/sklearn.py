"""Activations for scikit-learn's multilayer perceptrons.

>>> import fastact.sklearn
>>> from sklearn.neural_network import MLPClassifier
>>> with fastact.sklearn.register() as added:
...     model = MLPClassifier((8,), activation="fastact_elu", max_iter=300, random_state=0)
...     model.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict([[0.5], [2.5]])
array([0, 1])
>>> "swish" in added.refused
True
"""

from __future__ import annotations

from fastact.interop.scikit import Registration, register, unregister

__all__ = ["Registration", "register", "unregister"]
