"""Training by gradient steps; the one package that knows Lightning. `fit.fit` is the way in."""
