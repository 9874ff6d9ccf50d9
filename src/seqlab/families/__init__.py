"""One model family a module; `base` states the contract in shapes."""
