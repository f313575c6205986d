"""What to look for in each figure, and what a bad one looks like."""

CAPTIONS = {
    "study": (
        "Bands that do not overlap tell two settings apart, others tell nothing. "
        "More sweeps buy nothing where the accuracy is alike, and a cosine that falls "
        "while the loss does not is a gradient of something else."
    ),
    "swept": (
        "Bars that do not overlap tell two settings apart. A best epoch far above the "
        "final one was chosen on the test set, or the training is not done."
    ),
    "spectral_radius": (
        "Each example should lie left of the dashed line at 1: the farther, the sooner "
        "a disturbance dies out. Bars that reach the line belong to examples that "
        "settle slowly, and bars beyond it to rests that repel."
    ),
    "lyapunov": (
        "All exponents should stay below the dashed line at 0: neighbouring "
        "trajectories meet. A first exponent that touches the line, or a range that "
        "crosses it, means that they part and that no rest is reached for sure."
    ),
    "convergence_time": (
        "The bars should form one narrow group far below the limit of steps. A long "
        "tail to the right is of examples that barely settle, and the title counts "
        "those that do not."
    ),
    "contraction": (
        "A proved bar below the dashed line at 1 means one rest, reached from every "
        "state. Bars above it prove nothing; an estimated bar above it is a state "
        "where the map does stretch distances."
    ),
    "gradient_check": (
        "All marks should lie low: at 1e-4 and less the direction is right to two "
        "digits. A rule whose marks rise towards 1 for the first layers loses the "
        "signal on its way down."
    ),
    "gradient_curve": (
        "Marks should lie on their lines and the relative error stay small at every "
        "step. Marks that leave their line show after how many steps the nudged phase "
        "and backpropagation disagree."
    ),
    "recommended_beta": (
        "Left of the dashed line rounding should stay flat: a smaller nudge does no "
        "harm. Rounding that rises to the left means that small nudges are lost, and "
        "bias near 1 that the nudge of the run is too large."
    ),
    "recommended_settings": (
        "Marks below the dashed line keep the gradient, and the leftmost of them is "
        "recommended. A fall of the cosine at a middling number of sweeps is no error "
        "of the figure: it need not grow with them."
    ),
    "depth_profile": (
        "Activity and gradient should keep their size over the layers, and few units "
        "be saturated; displacements fall by the feedback scale per layer. A gradient "
        "that falls with them is a signal that vanishes, and near 100 % saturation "
        "nothing can be learnt."
    ),
    "weight_statistics": (
        "Couplings of one kind should look alike. One whose norm or largest weight "
        "stands out, or an operator norm far above the others, is what drives a "
        "network out of its range."
    ),
    "energy_trace": (
        "Each curve should fall in a straight line to the rounding of the energy "
        "(dotted). One that stays high has not settled, and one that breaks off high "
        "above the dotted line has risen: updates that overshoot."
    ),
    "nudge_plane": (
        "The bright region, where nudges have an equilibrium, should hold the whole "
        "circle of a rule's nudges. Dark patches near the centre, or contours that "
        "crowd there, leave room for small nudges alone."
    ),
    "history": (
        "Loss and error should fall, and sweeps, unsettled examples and one minus the "
        "cosine stay low. Sweeps or unsettled examples that climb while the loss falls "
        "are weights that grow out of the range where the network settles."
    ),
}
