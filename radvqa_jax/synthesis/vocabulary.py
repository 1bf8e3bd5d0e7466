"""Vocabulary for checking written questions: values that exclude each other, findings, and words without content.

All are written for English, in lower case, as `claims.words` splits a text: no hyphens, American spelling.
"""

import re

# Word -> the values that it means. Two values of one group exclude each other unless the evidence has both.
MODALITIES: dict[str, frozenset[str]] = {
    word: frozenset(values.split("+"))
    for values, listed in {
        "xray": "xray xrays radiograph radiographs radiography radiographic cxr roentgenogram",
        "ct": "ct hrct cect ncct",
        "ct+angiography": "cta",
        "mri": "mri mr flair dwi t1 t2 t1w t2w t1wi t2wi adc gadolinium",
        "mri+angiography": "mra mrv",
        "mri+cholangiography": "mrcp",
        "ultrasound": "ultrasound ultrasonography sonography sonogram sonographic ultrasonographic doppler "
        "echocardiography echocardiogram",
        "mammography+xray": "mammogram mammography mammographic tomosynthesis",
        "fluoroscopy+xray": "fluoroscopy fluoroscopic barium esophagram",
        "pet": "pet fdg",
        "scintigraphy": "scintigraphy scintigram spect scintigraphic",
        "angiography": "angiography angiogram angiographic venography arteriogram",
    }.items()
    for word in listed.split()
}
SIDES: dict[str, frozenset[str]] = {
    word: frozenset(values.split("+"))
    for values, listed in {
        "left": "left leftward lt lul lll llq luq",
        "right": "right rightward rt rul rml rll rlq ruq",
        "left+right": "bilateral bilaterally",
    }.items()
    for word in listed.split()
}
PLANES: dict[str, frozenset[str]] = {
    word: frozenset((value,))
    for value, listed in {
        "axial": "axial transaxial transverse",
        "sagittal": "sagittal parasagittal",
        "coronal": "coronal",
        "frontal": "frontal ap pa anteroposterior posteroanterior",
        "lateral": "lateralview",  # see claims: the word alone is a location, not a plane
        "oblique": "oblique",
    }.items()
    for word in listed.split()
}
# Each line: words | their opposites.
_OPPOSITES = """
small tiny little | large big huge giant massive
mild minimal slight | severe marked extensive
acute | chronic
benign | malignant
anterior ventral | posterior dorsal
superior upper | inferior lower
proximal | distal
increased elevated | decreased reduced diminished
hyperintense | hypointense | isointense
hyperdense hyperattenuating | hypodense hypoattenuating
hyperechoic | hypoechoic anechoic
single solitary | multiple several numerous
solid | cystic
dilated widened | narrowed stenotic
t1 t1w | t2 t2w
displaced | nondisplaced undisplaced
complete | incomplete partial
unilateral | bilateral
bright white | dark black
"""
OPPOSITES: tuple[dict[str, frozenset[str]], ...] = tuple(
    {word: frozenset((side.split()[0],)) for side in line.split("|") for word in side.split()}
    for line in _OPPOSITES.strip().splitlines()
)

FINDINGS = frozenset(
    """
abscess adenopathy aneurysm appendicitis arthritis ascites aspiration atelectasis atrophy bleed bleeding blastic
bronchiectasis calcification calcified calculus calculi cancer carcinoma cardiomegaly cavitation cavity cirrhosis clot
collapse collection compression consolidation contusion cyst cystic deformity dilatation dilation dislocation
dissection diverticulum diverticula edema effusion embolism embolus emphysema empyema encephalomalacia enlargement
erosion fibrosis fistula fracture fractured fluid gangrene glioma goiter granuloma hematoma hemorrhage hernia
herniation hydrocephalus hydronephrosis hydrocele hypertrophy infarct infarction infection infiltrate inflammation
intussusception ischemia laceration lymphadenopathy lymphoma malformation mass melanoma meningioma metastasis
metastases metastatic necrosis nodule nodular obstruction occlusion opacity opacification osteophyte osteophytes
perforation plaque pneumonia pneumothorax pneumomediastinum pneumoperitoneum polyp prolapse rupture sarcoma scar
sclerosis scoliosis shift spondylolisthesis stenosis stone stroke subluxation swelling tear thickening
thrombosis thrombus tuberculosis tumor tumour ulcer varices volvulus wound
""".split()
)
FINDING_ENDINGS = re.compile(
    r"(?:omas?|omata|itis|itides|osis|oses|megaly|pathy|ectasis|ectasia|plasia|rrhage|celes?|lithiasis|malacia|penia)$"
)
NOT_FINDINGS = frozenset("diagnosis diagnoses prognosis hypothesis stoma apoptosis osmosis anastomosis".split())
# Generic names of findings; none of them names a particular one.
GENERIC = frozenset(
    """
abnormality abnormalities abnormal lesion lesions finding findings pathology pathologies pathological anomaly anomalies
problem disorder disease syndrome condition process change changes area region focus foci
""".split()
)
NORMAL = frozenset("normal unremarkable healthy".split())
# One word for each set of synonyms.
SYNONYMS: dict[str, str] = {
    word: line.split()[0]
    for line in """
hemorrhage bleed bleeding hemorrhagic
calculus calculi stone stones lithiasis
lymphadenopathy adenopathy
infarct infarction stroke infarcts
thrombus thrombosis clot thrombosed
embolism embolus emboli
stenosis stenotic narrowing narrowed stenoses
metastasis metastases metastatic
calcification calcified calcific calcifications
cyst cystic cysts
hernia herniation herniated
atelectasis collapse collapsed atelectatic
opacity opacification opacities opacified
enlargement enlarged enlarge
fracture fractured fractures broken
dilatation dilation dilated dilate
tumor tumour neoplasm tumors neoplastic
swelling swollen
dislocation dislocated
obstruction obstructed obstructive
effusion effusions
nodule nodules nodular
edema edematous
lung lungs pulmonary
liver hepatic
kidney kidneys renal
brain cerebral intracranial
heart cardiac
chest thorax thoracic
abdomen abdominal
head cranium cranial
spine spinal vertebral
pelvis pelvic
breast mammary
stomach gastric
bone osseous bony
bowel intestine intestinal
show shows showing shown demonstrate demonstrates demonstrated demonstrating reveal reveals revealed
big large
male man boy
female woman girl
child pediatric
""".strip().splitlines()
    for word in line.split()[1:]
}

FORWARD = frozenset(
    "no not without never absence absent negative lack lacks lacking nor neither free denies none excluding".split()
)
BACKWARD = frozenset(
    "seen visible present identified evident noted detected demonstrated observed visualized found shown".split()
)
BACKWARD_ALONE = frozenset("absent excluded".split())
SCOPE_ENDS = frozenset("but however although though except yet while whereas apart besides".split())

# "More severe on the right": words that select one of two things.
COMPARED = frozenset("more most".split())
# Words that do not describe what is seen.
STOP = frozenset(
    """
a about above across after again all along also although am an and any appear appeared appears appearance are around as
at be because been being below best between but by can choose correct could depict depicted depicting depicts describe
describes described did display displayed displays do does done during each either evidence evident exam examination few
for from given had has have having he her here him his how i identified identify if image imaged images imaging in
indicate indicated indicates into is it its itself just kind like likely located location look looks main may me might
more most much must my name near no nor not note noted notes now observed of off on one ones only or other our out over
part particular patient patients per perform performed picture pictured please possible present presence presented
presents primarily primary principal probably provided provide question regarding representing represent represents same
scan scans section see seem seems seen she should show side sided sides since slice so some specific specifically study
such suggest suggested suggesting suggests take taken technique than that the their them then there these they this
those through to too toward towards type under up upon us use used using various very via view views visible visualized
was we well were what when where whether which while who whom whose why will with within without would yes you your
acquired body modality plane side size organ position anatomic anatomical structure structures involve involved
involving affected answer assess assessed cause caused characteristic
locate call called recognize lie lying contain sign consistent compatible suggestive find visualize detect detectable
observe observation half portion feature characterize illustrate highlight portray capture obtain visible discern spot
diagnose diagnosis technique half notice recognizable apparent notable region belong point entire whole overall
shown made make making used obtain obtained generate generated produce produced employ employed create created
sit sits sitting situate situated occupy occupies occupied occupying reside resides rest rests place placed arise arises
lies lain found true false actually really truly indeed clearly definitely certainly anything something nothing none
anywhere somewhere else appreciate appreciated discover discovered spotted seeing look looked looking harbor harbors
""".split()
)
