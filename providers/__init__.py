"""How to talk to one storage each; ``base`` holds the contracts, ``registry`` finds the module of a scheme."""

__haulage__ = True
