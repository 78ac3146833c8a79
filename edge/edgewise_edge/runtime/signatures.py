"""What a device model's steps are called, shared with the converter (edgewise_cloud/convert/graph.py)."""

DECODE = "decode"  # one token
PREFILL = "prefill"  # any number of them
MASKED = -1e9  # added to the score of what a token may not see; finite, or 0 x inf would be NaN
