"""`python -m anomaly_gan` is `anomaly-gan`."""

from anomaly_gan.cli.main import main

main()
