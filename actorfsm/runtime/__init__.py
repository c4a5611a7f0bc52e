"""Everything that lives. The only floor with asyncio; one concept, one file.

Read the path of an event in this order: ref, door, mailbox, dispatcher, actor, perform, settling, reply.
"""
