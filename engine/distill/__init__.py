"""Distillation: a student is fine-tuned on routed teacher responses.

data        rows become token ids on disk, with the loss on the response only
batches     which rows make an optimizer step, how a step is cut for the forward passes, and who takes which
loss        cross-entropy of the response positions, without a full logits tensor
forward     forward and backward passes of an optimizer step, and the held-out loss
lora        the trainable part of the student: PEFT adapters, or all of it
loop        the optimization itself: resumable, stoppable, bit-exact on a CPU
checkpoints what a training goes on from
parallel    the same by several processes, one a device, as the engine starts and follows them
rank_process, ranks    one of these processes, and what they tell each other
layouts, sharding      how the student lies on them: a copy in each, or a part in each
merge       adapter into the weights, checked against the live logits

Whether the trained student ends its answers is measured at evaluation, as
`engine.methods.statistics.accuracy([answer.finish_reason == "stop" for answer in completions])`: a base model may
never have been trained on its end-of-turn token.

Nothing here knows the store. Importing this package imports none of the modules above.
"""
