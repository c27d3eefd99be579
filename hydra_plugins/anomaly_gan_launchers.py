"""What Hydra has to know before a configuration is read: our resolvers; launchers, where there is submitit.

In this name space because Hydra takes plugins from nowhere else. Imported whenever Hydra starts, so light.
"""

from importlib.util import find_spec

from omegaconf import OmegaConf

from anomaly_gan.cli.messages import listed
from anomaly_gan.cli.sweep import all_classes, otherwise, part, run_folder

# Here, because every process that a launcher starts loads this module before it reads the configuration.
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("all_classes", all_classes, replace=True)
OmegaConf.register_new_resolver("otherwise", otherwise, replace=True)
OmegaConf.register_new_resolver("part", part, replace=True)
OmegaConf.register_new_resolver("groups", listed, replace=True)

if find_spec("submitit") is not None:
    # Hydra knows the launchers that it finds in a module it has imported.
    from hydra_plugins._anomaly_gan_submitit import LocalParallel, Slurm  # noqa: F401
