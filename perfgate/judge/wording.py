"""Wording: every sentence that the judge says, as a template with named places.

Output only: no code reads a sentence again, so any template may be reworded. Outcomes,
reports and exit codes depend on the fields of a verdict alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfgate.formatting import percent, signed_percent
from perfgate.judge.noise import fraction_of
from perfgate.results.verdict import Outcome

# Stands in advice for the run directory. `perfgate.report.verdict_text` fills it in.
RUN = "<run>"

# What was measured.
MEASURED_ON = "Measured on {launches} of run {run}."
INVALID_RUN = "Run {run}."
VALID_LAUNCHES = "{valid} of {launches} gave a valid value"
INVALID_REASONS = "Invalid: {reasons}."
NOT_COUNTED = "Not counted: {reasons}."
UNMEASURED = "{reason}"

# Against a recorded baseline.
AGAINST_RECORDED = "{change} vs the baseline {baseline}, threshold {threshold}"
PASSED = (
    "{change} vs the baseline {baseline}, threshold {threshold}; a loss above {excluded} "
    "is excluded"
)
NOT_EXCLUDED = (
    "{change} vs the baseline {baseline}, threshold {threshold}; a loss of {ceiling} is "
    "not excluded, it may be up to {excluded}"
)
BASELINE = "Baseline: {launches} of {runs}."
BASELINE_HERE = (
    "Baseline: {launches} of {runs}, all on this machine ({machine})."
)
BASELINE_ANY_CPU = "Baseline: {launches} of {runs}, which count on any CPU."
BASELINE_ELSEWHERE = (
    "Baseline: {machines}, each counted once; {machine} has too few launches of its "
    "own."
)
POOLED = "Launch-to-launch variation is pooled with {machines}."
EFFECT = (
    "Target effect {target}, minimum detectable effect {mde}; at most {alarms} of "
    "unchanged launches exceed the threshold."
)
NOISE = "{what} vary by {noise} (CV, {freedom} degrees of freedom, by these launches)."
NOISE_WITHIN = " Launches of one machine vary by {within}."
NOISE_LEARNED = (
    "{what} vary by {noise} (CV, {freedom} degrees of freedom; the store as a whole "
    "says {prior})."
)
NOISE_ASSUMED = (
    "{what} vary by {noise} (CV, {freedom} degrees of freedom; {assumed} is assumed "
    "until more are recorded)."
)
BELOW_FLOOR = "A loss of less than {floor} is never a regression."
REPETITIONS_SCATTER = (
    "The repetitions differ so much that the median of a launch is uncertain by "
    "{deviation} at least: the threshold is wider for it."
)
STARTS_APART = "Cold and warm starts are compared with their own kind: {kinds}."
START_OF_UNKNOWN_KIND = "unknown"
UNSTEADY = "The launches vary by {variation} (CV): {values}."
CONTEXT = "Context: {changes}."

# The sides of a ratio.
SIDE = "{side}: {load}: {value}."
SIDE_COMPARED = "{side}: {load}: {value}, {change} vs the baseline {baseline}."
MOVED_ONE = "The {side} moved: {load}."
MOVED_BOTH = "Both sides moved, as they do on a slower or busier machine."

# A loss that is accepted until a day.
KNOWN = "A loss of {worse_by} is accepted until {until}: {reason}."
KNOWN_EXPIRED = "That day has passed."
KNOWN_OTHER_WAY = "The value now moved the other way."
KNOWN_WORSE = "The loss is now larger than the accepted one."
KNOWN_EXCUSES = "{summary}; a {what} of {worse_by} is accepted until {until}"
KNOWN_DOES_NOT = (
    "{summary}; a {what} of {worse_by} was accepted until {until}: {objection}"
)
KNOWN_GONE = (
    "{change} vs the baseline {baseline}; the accepted loss of {worse_by} is gone, so "
    "the entry in the baseline is out of date"
)

# Why a case is report-only.
SET_IN_BASELINE = "set in the baseline"
FAMILY_NOT_JUDGED = "the family {family} is not judged on {label}"

# No comparison.
NO_BASELINE = "no baseline is recorded on {label}"
ONLY_THIS_RUN = "no other run than this one is recorded on {label}"
OTHER_ROUTING = (
    "{path} was measured with the model's own routers; here tokens are told to choose "
    "their experts ({stated}), so it does not apply"
)
INCOMPARABLE = "the baseline {file} was recorded under another configuration: {differences}"
VALUE_ALONE = "By value alone: {change} vs the baseline {baseline}."

# Where others used the cores of the host.
BESIDE_OTHERS = "{summary}; others used {used}, so that the loss may be theirs"
HOST_SHARED = (
    "Others used up to {cores} meanwhile: beside such a neighbour, loads whose steps wait "
    "for the host lost up to 17 %. Measure again without it."
)
QUIET_HOST = "Measure again without them; two builds launched in turn have the same neighbours."
QUIET_CORES = (
    "Measure again on cores of its own. Facts, work and two builds in turns (E20, E21) "
    "are judged whatever else runs."
)

# On a processor that was never recorded.
COARSE = (
    "{change} vs the slowest launch on {processors} other processors, {slowest} on {label}; "
    "on this processor only a value more than {most} times as bad is a regression"
)
COARSE_LOSS = (
    "No processor that was recorded is so slow. Find what changed for all servers; to "
    f"judge this processor closely: `perfgate accept {RUN}` on a good build."
)

# Against a published figure.
PUBLISHED = (
    "{change} vs the published {baseline} ({source}), tolerance {tolerance}"
)
PUBLISHED_UNLIKE = (
    "no baseline is recorded on {label}; {change} vs the published {baseline} "
    "({source}), tolerance {tolerance}, which does not apply here: {differences}"
)
PUBLISHED_NOTE = "Note: {note}"
COMPARISON_ONLY = "Comparison only: {differences}."
DOES_NOT_HOLD = (
    "the figure contradicts arithmetic or measurement, or is of another load"
)

# Where tokens are routed.
COLLAPSED = (
    "the router collapsed (two experts take {limit} or more) in {layers}"
)
COLLAPSED_LAYER = "layer {layer}: experts {first} and {second} take {share}"
SHIFT = (
    "layer {layer}: {distance} of the choices go to other experts than in the baseline, "
    "threshold {threshold}"
)
SHIFT_EXPERT = (
    "Expert {expert} of that layer gets {now} of its choices, {before} in the baseline. "
    "No layer is further beyond its threshold."
)
SHIFT_NOISE = "The threshold is the noise between two draws of requests."
SHIFT_OLD = (
    "The baseline has no counts by request, so only shifts of whole layers show. To see "
    f"1 % of the choices, record anew: `perfgate accept {RUN} --only '*/routing_shares'`."
)
SHIFT_NONE = "every request's choices are those of the baseline (0.00 %), threshold {threshold}"
REROUTED_EXPERT = (
    "Expert {expert} of that layer lost {lost} and gained {gained} of the layer's "
    "choices, request by request; its share is {now}, {before} in the baseline. No layer "
    "is further beyond its threshold."
)
REPEAT = (
    "{requests} compared one by one. The threshold is the distance between two recorded "
    "launches, {repeat}, plus 1 %."
)
REPEAT_ASSUMED = (
    "{requests} compared one by one. One recorded launch: the threshold is an assumed "
    "repeat distance of {repeat}, plus 1 %. `--launches 2` and accept record it."
)
SHIFT_KNOWN = "A shift of {worse_by} is accepted until {until}: {reason}."
SHIFT_LARGER = "The shift is now larger than the accepted one."
SHIFT_GONE = (
    "layer {layer}: {distance} of the choices go to other experts than in the baseline, "
    "threshold {threshold}; the accepted shift is gone, so the entry in the baseline is "
    "out of date"
)
SHIFT_SHAPE = (
    "the baseline {file} has no shares for the same number of layers, experts and "
    "requests"
)

# Answers to the fixed prompts.
ANSWERS_SAME = (
    "all {compared} answers are those of the baseline, within {nats} nats, threshold "
    "{threshold}"
)
ANSWERS_NEAR = (
    "{other} of {compared} answers have other tokens than the baseline, at most {nats} "
    "nats away, threshold {threshold}"
)
ANSWERS_OTHER = (
    "the model answers otherwise: {beyond} of {compared} answers are up to {nats} nats "
    "from the baseline, threshold {threshold}"
)
ANSWERS_OTHER_LENGTH = (
    "the model answers otherwise: {beyond} of {compared} answers are not those of the "
    "baseline, and {other_length} of them have another length"
)
ANSWERS_UNKNOWN = "the baseline {file} has no answers to the same prompts"

# Facts: settings, answers, operators.
FACT = "{name} {before} -> {now}"
FACTS_EQUAL = (
    "all {compared} are those of the baseline; any other one would be seen"
)
FACTS_CHANGED = "{changed} of {compared} differ from the baseline: {changes}"
FACTS_UNKNOWN = "the baseline {file} has none of these facts"
LOOK_AT_FACTS = (
    "Find what changed it: a default of the engine, a kernel, a flag. If it is expected: "
    f"`perfgate accept {RUN} --only '{{case}}' --reason 'WHY'`."
)
OPERATORS = "Operators that changed, calls for a batch: {changes}."
INSTRUCTIONS_ARE_NO_TIME = (
    "Instructions are no time: a loop of 5 % of a step's time was 15 % of them."
)
SAME_OPERATORS = "The operators are those of the baseline, each as often."

# Candidate against base build.
PAIRED = "{change} vs the base build {baseline}, threshold {threshold}"
PAIRED_PAIRS = "{pairs} launched in turn."
PAIRED_INTERVAL = (
    "{level} interval of the loss: {interval}; target effect {target}."
)
PAIRED_FEW = "{needed} pairs of positive values are needed, there are {pairs}"
PAIRED_DIFFER = "The builds differ: {differences}."
PAIRED_LOST = "Not counted: {reasons}."
PAIRED_SMALL_LOSS = (
    "The loss is at least {loss}, below the target effect: set a smaller one with "
    "--target-effect."
)

# Candidate against base build, both alive and asked in turns.
DUEL = (
    "{change} vs the base build {baseline}, threshold {threshold}; a loss above "
    "{excluded} is excluded"
)
DUEL_LAUNCHES = "{launches} of each build, asked in turns on one core."
DUEL_ERROR = (
    "Standard error of the loss {error}: a loss of {mde} would have been found; target "
    "effect {target}."
)
DUEL_FEW = "{needed} launches of each build are needed: {reasons}"
DUEL_BASE = "The base build is {base}."
DUEL_SAME = "Base and candidate are the same build: the verdict shows what this machine can see."
DUEL_WAITED = "The engines waited for a core in {share} of the time."

# Screened by a baseline, then decided by pairs.
SCREENED = "Screened: {outcome}, {summary}. Decided by {pairs}."
SCREEN_STANDS = (
    "The pairs decide nothing ({reasons}): the verdict of the screen stands."
)
PAIRS_LEAVE_LOSS = "The pairs do not exclude a loss of the target size."
MORE_PAIRS = (
    "Measure again on a quieter machine, or set a larger target effect "
    "(--target-effect)."
)
FEW_PAIRS = "{needed} pairs of values are needed"
PAIRS_ADVICE = (
    "To let pairs of launches decide, name the last good build: add "
    "`{options} --pairs suspect`."
)

# Two engines compared.
ENGINE_SETTINGS = "{server}: {settings}"
UNEQUAL = "not comparable: {name} is {numerator} vs {denominator}: {meaning}"
OTHER_KERNELS = (
    "{name} is {numerator} vs {denominator}: the engine chose other kernels for the "
    "second layout, which is a part of the ratio"
)
UNEQUAL_CPU = "not comparable: {note}"

# What the engine chose by itself.
CHOICE = "{name} {before} -> {now}"
CHOICE_OF_SIDE = "{choice} ({side})"
CHOSEN = "{changes}, chosen by the engine"
CHOSEN_INJECTED = "{changes}, under the injection"
CHOICE_CHANGED = "Changed: {cause}."
CHOICE_NOT_SEEN = (
    "Not seen in this run, so unknown: {choices}. The baseline has them."
)

# What to do next.
ACCEPT = f"`perfgate accept {RUN}` makes this run the baseline."
ACCEPTED = (
    "This run is in the baseline already: measure another one, which it judges."
)
ACCEPT_GAIN = f"Keep the gain: `perfgate accept {RUN} --only '{{case}}'`."
ACCEPT_LOSS = (
    "Find what changed (context, server log, commits of the engine). If the loss is "
    f"expected: `perfgate accept {RUN} --only '{{case}}' --reason 'WHY'`; add "
    "`--known-until DAY` to accept it for a while."
)
ACCEPT_ANEW = (
    "Record the case again, which removes the entry: "
    f"`perfgate accept {RUN} --only '{{case}}' --reason 'WHY'`."
)
ACCEPT_REPLACE = (
    f"If the change is intended: `perfgate accept {RUN} --only '{{case}}' --replace`. "
    "Otherwise run the recorded configuration, or compare two builds with "
    "--against-engine."
)
ACCEPT_SHAPE = f"Store the shares of this run: `perfgate accept {RUN} --only '{{case}}' --replace`."
ACCEPT_ANSWERS = (
    "Store the answers of this run: "
    f"`perfgate accept {RUN} --only '{{case}}' --replace`."
)
LOOK_AT_OTHER_ANSWERS = (
    "Find what changed (weights, dtype, sampler, a kernel). If the answers are meant to "
    "be others: "
    f"`perfgate accept {RUN} --only '*/answers_*' --reason 'WHY'`."
)
ACCEPT_SHIFT = (
    "Find what changed (weights, dtype, router kernel, fine-tuning). If the shift is "
    "expected: "
    f"`perfgate accept {RUN} --only '*/routing_*' --reason 'WHY'`."
)
ACCEPT_SHIFT_ANEW = (
    "Record the case again, which removes the entry: "
    f"`perfgate accept {RUN} --only '*/routing_*' --reason 'WHY'`."
)
INJECTED = (
    "The servers were changed on purpose. Measure again without the injection before "
    "you accept anything."
)
MEASURE_AGAIN = (
    "Remove the cause (results.json has the reason for each repetition), then measure "
    "again."
)
RESUME = f"Resume the run: the same command with --run-dir={RUN} --resume."
UNMEASURED_ADVICE = "{remedy}"
QUIET_MACHINE = "Find what else ran on the machine, then measure again."
QUIET_MACHINE_LAUNCHES = (
    "Find what else ran on the machine, then measure again; {launches} would "
    "detect the target effect."
)
# What would exclude a loss.
LAUNCH_MORE = "To exclude a loss of {ceiling}: launch it {launches} times (--launches {launches})."
OF_THIS_RUN = f" (`perfgate accept {RUN}`)"
OF_OTHER_RUNS = " of other runs"
RECORD_MORE = (
    "To exclude a loss of {ceiling}: record {launches}"
    f"{OF_THIS_RUN}, or launch it in turn with the last good build (--against-engine)."
)
CLOSE_TO_CEILING = (
    "The loss is too close to {ceiling}: launch it in turn with the last good build "
    "(--against-engine)."
)
TOO_NOISY = (
    "No number of launches excludes a loss of {ceiling} at this noise: launch it in turn "
    "with the last good build (--against-engine), or send a longer load."
)
ROUTER_WEIGHTS = (
    "Check the router's weights: they were trained without a load-balancing loss, or "
    "are damaged."
)
RECORD_OWN = (
    "Record a baseline of your own, which is the tighter gate: "
    f"`perfgate accept {RUN} --only '{{case}}'`."
)
PUBLISHED_LOSS = (
    "Check clocks, power limit, NVLink and attention backend of this machine. If its "
    "value is right, record it: it replaces the published one."
)
PAIRED_ADVICE = {
    Outcome.PASSED: "",
    Outcome.IMPROVED: "Record a baseline once the change is merged.",
    Outcome.REGRESSED: (
        "Find what the candidate changed for this load; the logs of both builds are in "
        "the run."
    ),
    Outcome.NOT_EXCLUDED: (
        "Launch more pairs (--launches), or set a larger target effect "
        "(--target-effect)."
    ),
    Outcome.INCONCLUSIVE: (
        "The pairs contradict each other: find what else ran on the machine, then "
        "measure again."
    ),
    Outcome.INVALID: "Remove the cause, then measure the missing launches again.",
}
DUEL_ADVICE = {
    Outcome.PASSED: "",
    Outcome.IMPROVED: "",
    Outcome.NOT_EXCLUDED: (
        "Measure again on a quieter machine, with more launches (--launches), or set a "
        "larger target effect (--target-effect)."
    ),
    Outcome.REGRESSED: (
        "Find what the candidate changed in a step of this model; the logs of both builds "
        "are in the run."
    ),
    Outcome.INCONCLUSIVE: (
        "The launches contradict each other: measure again, with more of them "
        "(--launches)."
    ),
    Outcome.INVALID: "Remove the cause, then measure again.",
}
# Too good to be true.
BURSTS = "tokens arrive in bursts: the ITL median is {share} of the TPOT median, below {bound}"
BURSTS_OF_GAPS = (
    "tokens arrive in bursts: {share} of the gaps between chunks are far shorter than a "
    "step"
)
MERGED = "chunks hold {tokens} tokens each: ITL is the time of a chunk, not of a token"
LOOK_AT_FIRST_CHUNK = (
    "Judge this load by E2EL and throughput: the first chunk holds several tokens, and "
    "TPOT counts from it. Look for speculative decoding, or a front that joins chunks."
)
IMPOSSIBLE_BANDWIDTH = (
    "physically impossible: decoding would use {utilisation} of the data sheet's memory "
    "bandwidth"
)
ANSWERS_CHANGED = "the answers changed: {change}"
IMPLAUSIBLE_GAIN = (
    "too good to be true: {gain} as good as before, more than {bound}"
)
VALUE_SAYS = "By value alone: {summary}."
LOOK_AT_BURSTS = (
    "Judge this load by TPOT and throughput. Look for multi-step scheduling, or a proxy "
    "that buffers."
)
FIRST_IN_BURST = "{bursts}; what holds them back delays the first token as well"
LOOK_AT_LATE_FIRST = (
    "Judge this load by E2EL and throughput: what holds tokens back delays the first "
    "one, and TPOT counts from it. Look for multi-step scheduling, or a proxy that "
    "buffers."
)
LOOK_AT_MERGED = (
    "Judge this load by TPOT and throughput. Look for speculative decoding, multi-step "
    "scheduling, or a front that joins chunks."
)
LOOK_AT_BANDWIDTH = (
    "Check that the server did the work: its model, its weights, its token counts, a "
    "cache or a proxy in front of it."
)
LOOK_AT_ANSWERS = "Compare the quality of the answers of both builds."
LOOK_AT_GAIN = (
    "Find what made it so much faster, and compare the answers of both builds."
)
ACCEPT_IMPLAUSIBLE = (
    "Not IMPROVED until a person says so. {look} If the value is right: "
    f"`perfgate accept {RUN} --only '{{case}}' --reason 'WHY'`."
)
ACCEPT_IMPLAUSIBLE_PAIRED = (
    "Not IMPROVED until a person says so. {look} If the value is right, record a "
    "baseline with a reason once the change is merged."
)

# Several rows.
STALLS = (
    "{invalid} of {repetitions} did not count because of the server; at most {usual} "
    "do not by chance"
)
STALLS_ADVICE = (
    "Read the server's log at these moments: a kernel that is compiled, a collector, a "
    "graph that is captured anew."
)
SLOW_REPETITION = (
    "repetition {number} of {repetitions} of {load} took {factor} times the launch's "
    "median, threshold {threshold}; the median hides it"
)
SLOW_LOADS = "So it is on {loads}."
SLOW_ADVICE = (
    "Look for a leak, a cache that fills, or clocks that fall: plot the repetitions with "
    f"`perfgate report {RUN}`."
)
REPETITION_TREND = (
    "the last repetition is slower by {drift} (median of {loads}), threshold "
    "{threshold}; it is the slowest on {slowest} of them"
)
REPORT_MAJORITY = (
    "{regressed} of {compared} report-only rows with a baseline are REGRESSED, by {loss} "
    "(median)"
)
REPORT_MAJORITY_ADVICE = (
    f"See them with `perfgate judge -v {RUN}`: they share a cause."
)
MIXED_LAUNCHES = (
    "{slow} of {launches} {verb} {loss} worse than the baseline, {others} it: a "
    "regression of the start"
)

# Rows of a server, and of a session, judged together.
SHIFT_OF = {
    "decode_speed": (
        "decoding is slower by {loss} on the mean of {loads}, threshold {threshold}"
    ),
    "throughput": (
        "throughput is lower by {loss} on the mean of {loads}, threshold {threshold}"
    ),
}
SHIFT_RANGE = "Single rows lose {smallest} to {largest}; {red} of {rows} fail by themselves."
SHIFT_BY_SESSIONS = (
    "They were recorded together in {sessions}; their mean varies by {noise} "
    "from launch to launch."
)
SHIFT_BY_ROWS = (
    "The noise of their mean is not known: taken as if all rows erred alike, by "
    "{noise}."
)
SHIFT_SERVER = "{server}: a loss of {loss}, threshold {threshold}."
SHIFT_SHARED = (
    "No server fails by its own rows together. Launches of one session are taken to share "
    "{shared} of their variance."
)
JOINT_RATE = "Unchanged code gives this in one of {runs} runs."
JOINT_CAUSE = "Rows name a cause: {causes}."
LOOK_AT_SHARED = (
    "Find what all loads share: clocks, driver, communication between GPUs, flags, "
    f"commits of the engine. If it is expected: `perfgate accept {RUN} --reason 'WHY'`."
)
OUTLIER = (
    "{metric} lost {loss}, and {distance} beside the other {loads} of the server, "
    "threshold {threshold}"
)
OUTLIER_BY = (
    "Recorded together in {sessions}; the distance varies by {noise} from launch to "
    "launch."
)
LOOK_AT_LOAD = (
    "Find what this load alone depends on: its batch size, its lengths, a kernel or "
    "graph chosen for them. If it is expected: "
    f"`perfgate accept {RUN} --only '{{case}}' --reason 'WHY'`."
)

# The ceiling, and what the noise makes of it.
CEILING_HIDDEN = (
    "The noise bound lies above the ceiling: a loss between {ceiling} and {threshold} is "
    "NOT_EXCLUDED, and no regression."
)
CEILING_OF_FLOOR = "A loss of less than {floor} never counts, so the ceiling is {ceiling} here."
CEILING_RAISED = "A ceiling below the target effect counts as {ceiling}."


def with_known(
    summary: str, what: str, worse_by: float, until: str, objection: str
) -> str:
    """A summary, and whether what was accepted until a day excuses the run.

    Args:
        what: "loss" or "shift".
        objection: the sentence that says why it does not; "" where it does.
    """
    template = KNOWN_EXCUSES
    if objection:
        template = KNOWN_DOES_NOT
    return template.format(
        summary=summary,
        what=what,
        worse_by=percent(worse_by),
        until=until,
        objection=objection[:1].lower() + objection[1:].removesuffix("."),
    )


def in_store(advice: str, words: str) -> str:
    """Advice whose commands name the store that a run is judged by.

    Args:
        words: that name a store; "" for the one that commands take by themselves.
    """
    return advice.replace(f" {RUN}", f" {RUN}{words}")


def limits(
    loss: float, higher_is_better: bool, either_way: bool
) -> tuple[float, ...]:
    """The changes of the value, as fractions, that are such a loss.

    Args:
        loss: that is allowed (log): a threshold, or a ceiling.
        either_way: whether a change in either direction may be a regression.
    """
    fall = -fraction_of(loss, higher_is_better=True)
    rise = fraction_of(loss, higher_is_better=False)
    if either_way:
        return fall, rise
    if higher_is_better:
        return (fall,)
    return (rise,)


def threshold(changes: Iterable[float], extra_digits: int = 0) -> str:
    """A threshold as the change of the value that it allows: "-5.0 %", "-4.8 % / +5.0 %".

    Args:
        changes: see `limits`.
        extra_digits: see `perfgate.formatting.extra_digits`.
    """
    texts = [signed_percent(change, extra_digits) for change in changes]
    return " / ".join(texts)
