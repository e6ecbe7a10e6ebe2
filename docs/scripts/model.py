"""The network alone, for crops of faces: python docs/scripts/model.py"""

import numpy as np

from fer_lightning import load_model

model = load_model()  # the model that comes along; of your own: load_model("runs/mine/version_0")
print(model)
crops = [np.zeros((90, 90, 3), np.uint8), np.full((60, 60, 3), 128, np.uint8)]  # RGB, any sizes
print(model.class_names)
print(model.probabilities(crops).round(3))
