"""In every Python process that has this folder on its path: each layer of a loaded model takes `SLOW_LAYER_S` more,
and loading one `SLOW_LOAD_S`.

It is how tests reach into processes that the engine starts; they cannot be patched from outside.
"""

import os
import time

LAYER_S, LOAD_S = (float(os.environ.get(name, "0")) for name in ("SLOW_LAYER_S", "SLOW_LOAD_S"))

if LAYER_S or LOAD_S:
    from engine.models import loading

    quick = loading.load_weights

    def load(*args, **kwargs):
        import torch

        time.sleep(LOAD_S)
        model = quick(*args, **kwargs)
        for layer in next(part for part in model.modules() if isinstance(part, torch.nn.ModuleList)):
            layer.register_forward_hook(lambda *_: time.sleep(LAYER_S))
        return model

    loading.load_weights = load
