"""How messages get through: docs/protocol.md, "Delivery"."""

import asyncio
import time

from lnd import LndError

# How long after an attempt the next one comes, in seconds; the last one again
# and again.
RESEND = (0.5, 1, 2, 4, 8, 16, 30)

# How many messages to a peer may wait, and how many sends be under way.
MAX_WAITING = 64
MAX_SENDS = 16

# How many messages a peer may send: so many a second, and so many at once.
RATE, BURST = 10, 30


class Rates:
    """How many messages each peer may still send."""

    def __init__(self):
        self.peers = {}

    def allow(self, peer):
        """Say whether a message of a peer is within its rate."""
        now = time.monotonic()
        left, last = self.peers.get(peer, (BURST, now))
        left = min(BURST, left + RATE * (now - last))
        allowed = left >= 1
        self.peers[peer] = (left - allowed, now)
        if len(self.peers) > 1000:
            # Who was silent for so long may send a burst again.
            self.peers = {key: value for key, value in self.peers.items()
                          if now - value[1] < BURST / RATE}
        return allowed


class Outbox:
    """The messages that are to be sent, one to a peer at a time."""

    def __init__(self, lnd, say):
        self.lnd = lnd
        self.say = say
        self.queues = {}
        self.sends = asyncio.Semaphore(MAX_SENDS)

        # What is sent until it is answered, by peer and message id.
        self.tasks = {}

        # The loop keeps no task alive by itself.
        self.running = set()

    def put(self, peer, msg_type, body):
        """Send a message once. Return what is done when it was tried."""
        tried = asyncio.get_running_loop().create_future()
        queue = self.queues.get(peer)
        if queue is None:
            queue = self.queues[peer] = []
            task = asyncio.create_task(self.work(peer, queue))
            self.running.add(task)
            task.add_done_callback(self.running.discard)
        if len(queue) < MAX_WAITING:
            queue.append((tried, msg_type, body))
        else:
            tried.set_result(None)
        return tried

    async def work(self, peer, queue):
        """Send what waits for a peer, in its order."""
        while queue:
            tried, msg_type, body = queue.pop(0)
            if tried.done():
                continue
            try:
                async with self.sends:
                    await self.lnd.send(peer, msg_type, body)
            except (OSError, ValueError, LndError) as err:
                self.say("not sent", peer=peer, type=msg_type, why=str(err))
            if not tried.done():
                tried.set_result(None)
        del self.queues[peer]

    def send_until(self, peer, msg_type, message_id, body, until):
        """Send a message again and again until stop() or a time."""
        async def send():
            delays = iter(RESEND)
            while time.time() < until:
                await self.put(peer, msg_type, body)
                await asyncio.sleep(next(delays, RESEND[-1]))
            self.tasks.pop((peer, message_id), None)

        self.tasks[peer, message_id] = asyncio.create_task(send())

    def stop(self, peer, message_id):
        """Stop sending a message, and say whether it was being sent."""
        task = self.tasks.pop((peer, message_id), None)
        if task:
            task.cancel()
        return task is not None

    async def drain(self, timeout):
        """Wait until all is answered, but not for ever."""
        end = time.monotonic() + timeout
        while self.tasks and time.monotonic() < end:
            await asyncio.wait(list(self.tasks.values()), timeout=0.2,
                               return_when=asyncio.FIRST_COMPLETED)
        for task in self.tasks.values():
            task.cancel()
