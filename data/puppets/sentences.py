"""Sentences for the puppets to say, from small grammars in a few languages.

A sentence belongs to the split 'test' or 'train' by a checksum of its text, so
that no sentence is ever spoken in both.
"""

import zlib

import numpy as np

TEST_SHARE = 8  # one sentence in so many belongs to the test split

_EN = {
    'who': 'my neighbour|the old captain|our new teacher|a small robot|Bob and '
           'Mary|the baker|nobody|every pupil|my brother|a famous painter|the '
           'weather man|your grandmother|Paul|the pilot|Emma|the gardener',
    'verb': 'found|bought|painted|remembers|borrowed|carried|repaired|promised '
            'me|wants to show|keeps|described|measured|opened|saved|bakes|'
            'forgot|prefers|imagined|moved|pushed',
    'what': 'a blue umbrella|five purple balloons|the broken piano|a bowl of '
            'warm soup|the map of Bombay|an empty bottle|fresh bread and '
            'butter|a wooden boat|the moon above the farm|a pair of brown '
            'boots|the most beautiful poem|apples and plums|a huge book about '
            'whales|the missing button|a cup of coffee|seven yellow maps',
    'where': 'behind the market|in the middle of the room|on top of the '
             'mountain|near the river|before breakfast|every Monday|by the '
             'open window|under the apple tree|during the summer|at the '
             'museum|over the phone|while we were waiting|from morning to '
             'evening',
    'talk': 'well, that is a beautiful idea|I am not sure about it|please '
            'move a bit closer|could you open the window|maybe we should '
            'leave|what a lovely morning|how about some music|thank you very '
            'much for coming|I have been waiting for you|above all, be patient',
}
_DE = {
    'who': 'mein Nachbar|die alte Kapitänin|unser Lehrer|ein kleiner Roboter|'
           'Paula und Max|der Bäcker|niemand|meine Schwester|die Malerin|der '
           'Pilot|Oma|das Mädchen',
    'verb': 'findet|kauft|bemalt|vergisst|repariert|sucht|zeigt uns|öffnet|'
            'beschreibt|bewahrt|probiert|bekommt',
    'what': 'einen blauen Regenschirm|fünf bunte Ballons|das kaputte Klavier|'
            'eine warme Suppe|die Karte von Bombay|eine leere Flasche|frisches '
            'Brot mit Butter|ein hölzernes Boot|den Mond über dem Feld|ein '
            'Buch über Wale|Äpfel und Pflaumen|die schönste Melodie',
    'where': 'hinter dem Markt|mitten im Zimmer|auf dem Berg|am Fluss|vor dem '
             'Frühstück|jeden Montag|am offenen Fenster|unter dem Baum|im '
             'Museum|den ganzen Sommer|bis zum Abend',
    'talk': 'das ist eine wunderbare Idee|ich bin mir nicht sicher|bitte komm '
            'ein bisschen näher|vielen Dank für alles|wollen wir Musik hören|'
            'was für ein schöner Morgen|vielleicht gehen wir bald',
}
_FR = {
    'who': 'mon voisin|la vieille dame|notre professeur|un petit robot|Paul et '
           'Marie|le boulanger|personne ici|ma soeur|le peintre|la pilote',
    'verb': 'trouve|achète|dessine|oublie|répare|cherche|montre|ouvre|décrit|'
            'garde|prépare|porte',
    'what': 'un parapluie bleu|cinq beaux ballons|le vieux piano|une bonne '
            'soupe chaude|la carte du pays|une bouteille vide|du pain et du '
            'beurre|un bateau en bois|la lune au-dessus du champ|un livre sur '
            'les baleines|des pommes et des poires|une jolie chanson',
    'where': 'derrière le marché|au milieu de la chambre|sur la montagne|près '
             'de la rivière|avant midi|tous les lundis|sous le pommier|au '
             'musée|pendant tout l’été|jusqu’au soir',
    'talk': 'quelle belle matinée|je ne suis pas sûr du tout|venez un peu plus '
            'près|merci beaucoup pour tout|on pourrait écouter de la musique|'
            'c’est une bonne idée, bien sûr',
}
_ES = {
    'who': 'mi vecino|la vieja capitana|nuestro maestro|un pequeño robot|Pablo '
           'y María|el panadero|nadie|mi hermana|el pintor|la abuela',
    'verb': 'encuentra|compra|pinta|olvida|repara|busca|muestra|abre|describe|'
            'guarda|prepara|lleva',
    'what': 'un paraguas azul|cinco globos blancos|el piano roto|una sopa '
            'caliente|el mapa de Bombay|una botella vacía|pan con mantequilla|'
            'un barco de madera|la luna sobre el campo|un libro de ballenas|'
            'manzanas y peras|una bonita canción',
    'where': 'detrás del mercado|en medio de la sala|en la montaña|cerca del '
             'río|por la mañana|todos los lunes|debajo del árbol|en el museo|'
             'durante el verano|hasta la noche',
    'talk': 'qué buena idea|no estoy muy seguro|por favor, ven un poco más '
            'cerca|muchas gracias por todo|podemos escuchar música|bueno, '
            'vamos a ver',
}
_IT = {
    'who': 'il mio vicino|la vecchia signora|il nostro maestro|un piccolo '
           'robot|Paolo e Maria|il fornaio|nessuno|mia sorella|il pittore|la '
           'nonna',
    'verb': 'trova|compra|dipinge|dimentica|ripara|cerca|mostra|apre|descrive|'
            'prepara|porta|ama',
    'what': 'un ombrello blu|cinque bei palloni|il vecchio pianoforte|una '
            'zuppa calda|la mappa di Bombay|una bottiglia vuota|pane e burro|'
            'una barca di legno|la luna sopra il campo|un libro sulle balene|'
            'mele e prugne|una bella canzone',
    'where': 'dietro il mercato|in mezzo alla stanza|sulla montagna|vicino al '
             'fiume|prima di pranzo|ogni lunedì|sotto il melo|al museo|per '
             'tutta l’estate|fino a sera',
    'talk': 'che bella idea|non sono molto sicuro|per favore, vieni un po’ più '
            'vicino|grazie mille di tutto|possiamo ascoltare la musica|va bene,'
            ' vediamo',
}
GRAMMARS = {
    language: {slot: words.split('|') for slot, words in grammar.items()}
    for language, grammar in
    {'en': _EN, 'de': _DE, 'fr': _FR, 'es': _ES, 'it': _IT}.items()
}
PATTERNS = ('{who} {verb} {what} {where}.', '{who} {verb} {what}.',
            '{talk}, {who} {verb} {what}.', '{where}, {who} {verb} {what}.',
            '{who} {verb} {what}, {talk}!', '{talk} {where}.',
            '{talk}: {what}, {what2}, {what3}.',
            '{who} {verb} {what}, and {who2} {verb2} {what2}.')
_AND = {'en': 'and', 'de': 'und', 'fr': 'et', 'es': 'y', 'it': 'e'}


def split_of(sentence: str) -> str:
  """'train' or 'test': where a sentence may be spoken."""
  checksum = zlib.crc32(sentence.encode('utf-8'))
  return 'test' if checksum % TEST_SHARE == 0 else 'train'


def sentence(rng: np.random.Generator, language: str, split: str) -> str:
  """A random sentence of a language and split.

  Args:
    rng: source of randomness.
    language: 'en', 'de', 'fr', 'es' or 'it'.
    split: 'train' or 'test'.

  Raises:
    ValueError: if the language or the split is unknown.
  """
  if language not in GRAMMARS:
    raise ValueError(f'language {language!r} is unknown; expected one of '
                     f'{sorted(GRAMMARS)}')
  if split not in ('train', 'test'):
    raise ValueError(f"split {split!r} is unknown; expected 'train' or 'test'")
  grammar = GRAMMARS[language]
  while True:
    words = {}
    for slot, choices in grammar.items():
      picks = rng.choice(len(choices), size=3, replace=False)
      words[slot], words[slot + '2'], words[slot + '3'] = (
          choices[i] for i in picks)
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    text = pattern.format(**words).replace(' and ', f' {_AND[language]} ')
    text = text[0].upper() + text[1:]
    if split_of(text) == split:
      return text
