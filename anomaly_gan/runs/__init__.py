"""A run's folder: what a finished detector leaves there."""

from anomaly_gan.runs.finish import finish
from anomaly_gan.runs.parts import DETECTOR_FILE, FIGURES_FOLDER, Fitted, Run, Training
from anomaly_gan.runs.summary import summary

__all__ = ["DETECTOR_FILE", "FIGURES_FOLDER", "Fitted", "Run", "Training", "finish", "summary"]
