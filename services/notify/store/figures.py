"""Figures of voices, for the screen that shows the network."""

from uuid import UUID

from kit.db import Pool

NAMES = ("voices_raised", "voices_waiting", "voices_answered", "voices_closed_unanswered",
         "voices_handled_here", "voices_closed_unanswered_here")  # fmt: skip


async def figures(pool: Pool, node: UUID) -> list[tuple[UUID, str, int]]:
    """What became of voices, by the node where they were raised: this one and those below.

    `voices_raised` is the sum of the three that follow it: `voices_waiting` (no level answered or
    closed them), `voices_answered` (some level did), `voices_closed_unanswered`.  Beside them, of
    voices wherever they were raised: `voices_handled_here`, about which the node itself did
    something, and of these `voices_closed_unanswered_here`, which it closed and no level answered.

    What levels above did counts as far as it came down.  A level has a say in a voice that was
    raised there or passed on to it, as in `domain.voices.chained`.
    """
    rows = await pool.fetch(
        """
        WITH RECURSIVE step AS (
            SELECT voice, voice_origin, origin, action, addressee FROM handlings
            UNION ALL
            SELECT voice, voice_origin, origin, action, addressee FROM replies WHERE origin <> $1
        ), heard AS (
            SELECT * FROM step WHERE origin = voice_origin
             UNION
            SELECT step.* FROM heard below JOIN step USING (voice, voice_origin)
             WHERE step.origin = below.addressee
        ), outcome AS (
            SELECT voice.id, voice.origin,
                   bool_or(action = 2) IS TRUE AS answered, bool_or(action = 3) IS TRUE AS closed
              FROM voices voice
              LEFT JOIN heard ON heard.voice = voice.id AND heard.voice_origin = voice.origin
             GROUP BY voice.id, voice.origin
        ), counted AS (
            SELECT origin, count(*) AS voices_raised,
                   count(*) FILTER (WHERE NOT answered AND NOT closed) AS voices_waiting,
                   count(*) FILTER (WHERE answered) AS voices_answered,
                   count(*) FILTER (WHERE closed AND NOT answered) AS voices_closed_unanswered,
                   0 AS voices_handled_here, 0 AS voices_closed_unanswered_here
              FROM outcome GROUP BY origin
            UNION ALL
            SELECT heard.origin, 0, 0, 0, 0, count(DISTINCT voice),
                   count(*) FILTER (WHERE action = 3 AND NOT answered)
              FROM heard JOIN outcome ON outcome.id = voice AND outcome.origin = voice_origin
             GROUP BY heard.origin
        )
        SELECT origin, sum(voices_raised) AS voices_raised, sum(voices_waiting) AS voices_waiting,
               sum(voices_answered) AS voices_answered,
               sum(voices_closed_unanswered) AS voices_closed_unanswered,
               sum(voices_handled_here) AS voices_handled_here,
               sum(voices_closed_unanswered_here) AS voices_closed_unanswered_here
          FROM counted GROUP BY origin ORDER BY origin
        """,
        node,
    )
    return [(row["origin"], name, int(row[name])) for row in rows for name in NAMES]
