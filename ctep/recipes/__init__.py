"""Published systems by name: `ctep.recipes.train("fre-2x512")`."""

from ._all import RECIPES as RECIPES, get as get
from .base import Options as Options, Recipe as Recipe
from .grid import Study as Study, study as study
from .run import Restored as Restored, restore as restore, train as train
from .tune import tune as tune
