"""Who stories are about: traits, kinds, names, and the words that a premise is read with."""

from penstock.models.offline.storyteller.book.arcs import words

TRAITS = {
    "flying winged airborne": (
        "{Hero} could fly. {He} did not do it elegantly, and {he} landed mostly in hedges, but once"
        " {he_was} up {he} saw everything: who was home, who was late, and who could do with a"
        " visit.",
        "{Hero} took a deep breath, rose into the air, and flew the last stretch.",
    ),
    "singing musical humming": (
        "{Hero} sang. {He} sang to kettles and to rain, and whenever {he} stopped, things seemed to"
        " be waiting for the next verse.",
        "{Hero} sang three notes, waited for the echo, and followed it.",
    ),
    "dancing": (
        "{Hero} danced wherever {he} went: out on tiptoe, and home again with a twirl at every"
        " corner.",
        "{Hero} went on tiptoe, so lightly that not a board creaked.",
    ),
    "tiny little small smallest mini wee": (
        "{Hero} was so small that people sometimes forgot to look down. {He} did not mind. It is"
        " surprising what you hear about the world from no higher than a doorstep.",
        "{Hero} slipped through a gap that nobody else would have noticed.",
    ),
    "giant huge big enormous gigantic": (
        "{Hero} was so big that doorways had to be thought about in advance. {He} had learned to be"
        " careful: {he} sat down slowly, and laughed facing away from the washing.",
        "{Hero} stretched up as high as {he} could, and looked over the top of everything.",
    ),
    "invisible": (
        "{Hero} could not be seen. It was handy for hide-and-seek and for very little else, and"
        " {he} had got into the way of humming, so that nobody would sit on {him}.",
        "{Hero} crept closer, and of course nobody saw {him} come.",
    ),
    "quiet shy silent timid": (
        "{Hero} was quiet. {He} could get through a whole afternoon without a word, and people told"
        " {him} things that they told nobody else.",
        "{Hero} went so quietly that not even the sparrows looked round.",
    ),
    "brave fearless bold courageous": (
        "Everybody said that {hero} was brave. {He} knew better. {He_was} often frightened and went"
        " anyway, and had never found out what else the word could mean.",
        "{Hero} did not feel brave at all, and went anyway.",
    ),
    "lonely lonesome": (
        "{Hero} was often lonely. {He} knew the sound of everyone who passed, and had a good"
        " morning ready for each of them, though there was seldom time to say it.",
        "{Hero} thought that somebody might be all alone there, and went faster.",
    ),
    "sleepy tired dreamy": (
        "{Hero} was nearly always sleepy. {He} had dozed through two weddings and a thunderstorm,"
        " and did {his} best thinking in the soft moment just before the eyes close.",
        "{Hero} yawned, shook {himself}, and took the quietest way, which only the sleepy know.",
    ),
    "grumpy cross angry grouchy": (
        "{Hero} was known to be grumpy. {He} grumbled at the weather, good or bad, and at"
        " birthdays. But {he} never grumbled at anybody who was sad.",
        "{Hero} grumbled all the way there, but {he} went all the way.",
    ),
    "clumsy wobbly": (
        "{Hero} was clumsy. {He} had fallen over the same bucket so often that by now they were"
        " friends.",
        "{Hero} tripped, rolled over twice, bumped against something, and looked up.",
    ),
    "curious clever smart inventive": (
        "{Hero} wanted to know why, and when that was answered, {he} wanted to know why again. {He}"
        " kept a list of questions that had not been tried on anybody yet.",
        "{Hero} looked round one more corner, because there is always one more.",
    ),
    "magic magical enchanted": (
        "{Hero} was a little bit magic. It was not the kind that wins battles. When {he} laughed,"
        " clocks ran slow, so that good afternoons lasted somewhat longer than they should.",
        "{Hero} laughed once, under {his} breath, and for one slow minute there was time to look"
        " everywhere.",
    ),
    "talking": (
        "{Hero} could talk, and saw no reason to keep it to {himself}. {He} talked to gates and to"
        " puddles, and was always pleased when somebody answered.",
        "{Hero} asked the way of everyone {he} met, and thanked them all.",
    ),
    "forgetful": (
        "{Hero} was forgetful. {He} forgot names, umbrellas, and once the whole of a Wednesday, but"
        " {he} never forgot a kindness.",
        "{Hero} forgot which way {he} had meant to go, went the other way, and was glad of it.",
    ),
    "old ancient elderly": (
        "{Hero} was very old, and had time. {He} remembered winters that nobody else remembered,"
        " and when {he} told of them people pulled their coats closer.",
        "{Hero} went slowly, by a way that only the very old remember.",
    ),
    "blue red green yellow purple pink orange golden silver rainbow striped": (
        "{Hero} was {trait} from top to bottom. Nobody could say why, and after a while nobody"
        " asked; they only agreed that it made {him} easy to find.",
        "{Hero} went straight on, as bright as a flag.",
    ),
    "kind friendly gentle": (
        "{Hero} was kind, and not in a loud way. {He} waited for people who were slow, and"
        " pretended to be admiring the view.",
        "{Hero} thought how it must feel to be the one who waits, and went faster.",
    ),
}
#: What `who can fly` and the like say about a hero.
ABILITIES = {"fly": "flying", "sing": "singing", "dance": "dancing", "talk": "talking"}

#: `dreams of flying` and the like, as something that a hero wants to do.
GERUNDS = {
    f"{stem}ing": verb
    for verb, stem in [
        ("be", "be"), ("become", "becom"), ("climb", "climb"), ("cook", "cook"), ("dance", "danc"),
        ("draw", "draw"), ("drive", "driv"), ("explore", "explor"), ("find", "find"),
        ("fly", "fly"), ("go", "go"), ("grow", "grow"), ("have", "hav"), ("help", "help"),
        ("make", "mak"), ("meet", "meet"), ("open", "open"), ("paint", "paint"), ("play", "play"),
        ("read", "read"), ("ride", "rid"), ("run", "runn"), ("sail", "sail"), ("see", "see"),
        ("sing", "sing"), ("skate", "skat"), ("surf", "surf"), ("swim", "swimm"),
        ("travel", "travell"), ("travel", "travel"), ("visit", "visit"), ("win", "winn"),
        ("write", "writ"),
    ]
}  # fmt: skip

#: Nouns that can be a hero, by how they are spoken of and whether they can go anywhere.
KINDS = {
    noun: sort
    for sort, nouns in {
        "she": "girl princess queen mermaid witch grandmother grandma mother mum mom sister aunt"
        " lady woman fairy hen cow duchess daughter goddess mare",
        "he": "boy prince king wizard grandfather grandpa father dad brother uncle man rooster bull"
        " duke son postman fisherman snowman fireman policeman",
        "they": "child kid baby friend pirate sailor captain knight astronaut doctor teacher nurse"
        " baker farmer gardener painter artist singer dancer chef cook student scientist explorer"
        " inventor musician magician clown ninja detective hero superhero firefighter pilot driver"
        " builder tailor cobbler librarian programmer engineer poet writer shepherd hunter thief"
        " spy twin giant elf gnome goblin troll ogre dwarf ghost vampire zombie alien spirit monk",
        "it": "dog puppy cat kitten mouse rat rabbit bunny hare fox wolf bear cub lion tiger"
        " leopard cheetah panther elephant giraffe zebra hippo hippopotamus rhino monkey ape"
        " gorilla sloth panda koala kangaroo camel llama alpaca horse pony donkey pig piglet"
        " sheep lamb goat chicken chick duck duckling goose gosling swan owl eagle hawk crow"
        " raven robin sparrow parrot penguin puffin pigeon peacock flamingo stork heron"
        " hummingbird bird bat bee bumblebee butterfly caterpillar moth ant beetle ladybug"
        " ladybird spider snail worm slug cricket grasshopper firefly frog toad newt lizard"
        " gecko chameleon snake tortoise hedgehog squirrel chipmunk badger mole beaver otter"
        " raccoon skunk deer moose reindeer hamster gerbil ferret weasel bull dinosaur"
        " dragon unicorn phoenix griffin monster creature yeti robot android machine"
        " computer drone car truck bus tractor train engine bicycle bike plane airplane"
        " aeroplane helicopter rocket spaceship balloon kite toy doll teddy puppet umbrella"
        " shoe sock hat teapot cup spoon pencil crayon book button lantern candle broom"
        " carpet drum violin piano guitar bell raindrop snowflake leaf feather shadow"
        " sandwich pancake cookie cupcake potato carrot pumpkin animal pet calf foal hound"
        " terrier poodle genie imp toaster kettle pebble",
        "rooted": "lighthouse tree oak house cottage castle tower windmill bridge statue clock lamp"
        " streetlamp lamppost flower rose sunflower daisy cactus mushroom scarecrow mountain hill"
        " volcano island forest garden library school well fountain stone rock",
        "sea": "whale dolphin shark fish goldfish octopus squid jellyfish starfish seahorse crab"
        " lobster shrimp clam oyster eel seal walrus turtle ship boat submarine tugboat wave",
        "sky": "star moon sun cloud comet planet rainbow wind storm",
    }.items()
    for noun in nouns.split()
}
GIRLS = words(
    "ada alice amelia amy anna anne astrid beatrice bella chloe clara daisy elena ella ellie emily"
    " emma eva eve fiona freya georgia grace greta hannah heidi ida ines isabel iris isla ivy jane"
    " julia lara laura lena lily lina lisa lottie lucy luna mabel maria marie mary matilda maya mia"
    " mila molly nadia nell nina nora olivia paula penny pippa polly rosa rosie ruby sally sara"
    " sarah sofia sophia sophie stella susan tess tilda tina vera wendy zoe"
)
BOYS = words(
    "adam albert alfie anton arthur ben benny bill billy bob boris carl charlie dan daniel david"
    " eddie edgar emil eric ethan felix finn frank fred freddy george gus hans harry henry hugo"
    " igor ivan jack jacob james jim joe john jonas karl leo leon liam louis lucas luke mark martin"
    " matt max michael mike milo ned nick noah oliver oscar otto paul pete peter ralph rex richard"
    " rob robert rupert sam simon stan steve ted theo thomas tim timmy tobias toby tom tommy victor"
    " walter will willy"
)
#: Words that say nothing about what a text is about.
SMALL_WORDS = words(
    "about above after again also although among another because been before being below between"
    " both came come could does doing down during each even ever every from further going have"
    " having here hers herself himself into itself just like made make many more most much must"
    " never only other ours over said same shall should since some still such than that their"
    " theirs them themselves then there these they thing things this those through under until"
    " upon very want were what when where which while whom will with within without would your"
    " yours yourself"
)
