"""Where objects live: the object model, the mailbox and turn of each object, and the shard process."""
