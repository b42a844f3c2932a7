"""Where stories happen, and who helps there."""

from penstock.models.offline.storyteller.book.arcs import Place

PLACES = (
    Place(
        "Saltmarsh", "a harbour town with more stairs than streets", "The harbour folk",
        "Ropes tapped against the masts, gulls argued over the crusts, and the whole of it smelled"
        " of tar and warm bread.", coast=True,
    ),
    Place(
        "Whistle Point", "where the land runs out and the wind begins", "The people of the Point",
        "The wind played on the fence wires like a beginner on the fiddle, and tasted of salt.",
        at="at", coast=True,
    ),
    Place(
        "Thistledown", "a village at the end of a very long lane", "The villagers",
        "Bees hummed in the lavender, the pump dripped into its bucket, and somebody was always"
        " frying onions.",
    ),
    Place(
        "Upper Puddle", "where it rains on Tuesdays and nobody minds", "The people of Upper Puddle",
        "Rain ticked in the gutters, boots squeaked on the stones, and every kitchen window"
        " breathed out the smell of ginger cake.",
    ),
    Place(
        "Copper Hill", "a small town with a workshop in every yard", "The people of Copper Hill",
        "Hammers rang, saws sang, and curls of new wood blew down the street, smelling of resin.",
    ),
    Place(
        "Lantern Row", "the crookedest street in an old, old city", "The people of Lantern Row",
        "Pigeons muttered under the eaves, and from the cellars came the thump of dough and a smell"
        " of cinnamon.",
    ),
)  # fmt: skip
#: For a place that the premise names, of which nothing else is known.
ELSEWHERE_SENSE = (
    "If you held your breath you could hear the place itself: a creak, a drip, a murmur, and now"
    " and then somebody laughing a long way off."
)
#: Name, what it is, she or he, a habit.
HELPERS = (
    ("Mrs Quill", "an old heron", "she", "who never said anything twice"),
    ("Mr Bramble", "a hedgehog", "he", "who was on his way home from somewhere"),
    ("Aunt Juniper", "a goat", "she", "who had an opinion on most things and ate the rest"),
    ("Old Tobias", "a retired ferryman", "he", "who still stepped over puddles like a captain"),
    ("Grandfather Moss", "a tortoise", "he", "who had been thinking since breakfast"),
    ("Pocket", "a small brown owl", "she", "who was up long past her bedtime"),
    ("Miss Fennimore", "a clockmaker", "she", "who carried three watches and trusted none of them"),
    ("Tuppence", "a one-eared hare", "he", "who had heard everything once already"),
)
#: Heroes for premises that name none: what it is, its name, she or he.
STAND_INS = (
    ("a girl", "Nell", "she"),
    ("a boy", "Otto", "he"),
    ("a mouse", "Pim", "he"),
    ("a young fox", "Juno", "she"),
    ("a girl", "Ottilie", "she"),
    ("a small bear", "Barnaby", "he"),
)
#: What a hero is like who has no trait that we know, and how such a hero gets there.
PLAIN_TRAITS = (
    (
        "{Hero} was a good listener. {He} heard the things that other people hurried past: a loose"
        " shutter, a new bird, a friend who had gone quiet.",
        "{Hero} kept quite still, and listened until {he} knew which way to go.",
    ),
    (
        "{Hero} noticed things. {He} knew which step creaked, which chimney smoked on Sundays, and"
        " which of the neighbours only pretended to like plums.",
        "{Hero} noticed a mark that everybody else had walked past, and followed it.",
    ),
    (
        "{Hero} was never in a hurry. {He} believed that most things are worth looking at twice,"
        " and some of them three times, with the head on one side.",
        "{Hero} did not hurry. {He} went a little at a time, and looked behind everything twice.",
    ),
)
#: The same for heroes who cannot leave their place; somebody else must go for them.
ROOTED_TRAIT = (
    "{Hero} never went anywhere, and did not need to. Sooner or later everything came by: the"
    " weather, the wild geese, the Tuesday post."
)
#: And for heroes of the sea and the sky, who see the place from outside.
OUTSIDE_TRAIT = (
    "From there {hero} could see a great deal: who was early, who was late, and whose washing was"
    " still out in the rain."
)
ROOTED_DEED = (
    "{Hero} could not go {himself}, so {friend} went, and {hero} watched and waited and told"
    " {fhim} where to look."
)
