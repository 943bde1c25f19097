"""The saturation audit in words, the same on the terminal and in the report."""

from collections import Counter

from edgecnn.bundle.manifest import SaturationRecord

_CURE = "edgecnn quantize --recipe u8s8-perchannel-minmax-reduced"


def saturation_sentences(record: SaturationRecord) -> list[str]:
    """Return what the audit found, in sentences."""
    sentences = [_verdict(record)]
    if record.may_overflow_on_arm:
        names = ", ".join(record.may_overflow_on_arm)
        sentences.append(f"Arm: two weights of -128 in an output may exceed 16 bits in {names}. Cure: {_CURE}")
    if record.exempt:
        counts = Counter(record.exempt.values())
        layers = ", ".join(f"{count} ({reason})" for reason, count in counts.items())
        sentences.append(f"Layers that cannot, whatever their weights: {layers}.")
    sentences += [f"Not known of {layer}: {reason}." for layer, reason in record.unknown.items()]
    return sentences


def _verdict(record: SaturationRecord) -> str:
    start = "x86 without VNNI:"
    if unsafe := record.can_saturate:
        names = ", ".join(layer.layer for layer in unsafe)
        return f"{start} sums of two products can exceed 16 bits in {names}. Cure: {_CURE}"
    if not record.layers:
        return f"{start} no {'layer could be audited' if record.unknown else 'dot product can saturate'}."
    worst = max(record.layers, key=lambda layer: abs(layer.worst_pair_sum))
    which = f" of the {len(record.layers)} layers audited" if record.unknown else ""
    return (
        f"{start} no dot product{which} can saturate; the worst sum of two products is {worst.worst_pair_sum} "
        f"of -32768 to 32767, in {worst.layer}."
    )
