"""How Lightning runs several processes on one batch."""

import datetime
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy

from anomaly_gan.distributed import localise_batch_norm, synchronise_batch_norm

PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for the others: process 0 may be drawing pictures."""


class SharedBatch(DDPStrategy):
    """DDP's processes without its wrapper.

    The wrapper averages gradients after the one backward pass that it expects of each forward pass; every
    line of Algorithm 1 has its own, on its own networks. So the method averages them itself, once a line
    (`PhasedTraining.descend`), and batch norm looks at all processes while a model is trained. FSDP is not
    offered: the five networks have some 24 million parameters, which fit any device many times over.
    """

    def __init__(self, **keywords: Any):
        super().__init__(timeout=PATIENCE, **keywords)

    def configure_ddp(self) -> None:
        """Start all processes from the weights of process 0."""
        assert isinstance(self.model, pl.LightningModule)
        for tensor in self.model.state_dict().values():
            dist.broadcast(tensor, src=0)
        synchronise_batch_norm(self.model)

    def teardown(self) -> None:
        """Leave an ordinary model."""
        if self.lightning_module is not None:
            localise_batch_norm(self.lightning_module)
        super().teardown()
