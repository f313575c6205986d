"""Arguments of the wrong kind, answered in one sentence before anything is compiled."""

from .arguments import (
    choice as choice,
    count as count,
    epoch as epoch,
    flag as flag,
    function as function,
    instance as instance,
    integer as integer,
    is_whole as is_whole,
    key as key,
    members as members,
    no_rate as no_rate,
    nudge as nudge,
    number as number,
    plain as plain,
    positive as positive,
    real as real,
    shown as shown,
    tolerance as tolerance,
    traced_number as traced_number,
)
from .arrays import (
    array as array,
    arrays as arrays,
    native as native,
    numbers_or_none as numbers_or_none,
    same_shape as same_shape,
    traced as traced,
    unmasked as unmasked,
    weights as weights,
)
from .shapes import (
    counts as counts,
    image as image,
    is_listed as is_listed,
    one_or_two as one_or_two,
    pairs as pairs,
    positive_shape as positive_shape,
    shape as shape,
    sizes as sizes,
)
