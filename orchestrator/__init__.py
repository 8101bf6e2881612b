"""What to do, and what is done: specs, plans, states, the ledger, dispatch. Knows no cloud SDK and moves no byte."""

import providers

__haulage__ = True

if not getattr(providers, "__haulage__", False):
    raise ImportError(
        f"the module 'providers' at {providers.__file__} hides the one that Haulage installs; "
        "rename it or move it off sys.path"
    )
