"""Full-reference metrics without learned weights."""

import math

from iqazoo.metric_spec import MetricSpec

PSNR = MetricSpec(
    name="psnr",
    network="iqazoo.metrics.psnr:PSNR",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, math.inf),
    summary="Peak signal-to-noise ratio in decibel",
    license="Apache-2.0",
    channels=(1, 3),
)

SSIM = MetricSpec(
    name="ssim",
    network="iqazoo.metrics.ssim:SSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(-1.0, 1.0),
    summary="Structural similarity in Gaussian windows of 11 pixels",
    paper="Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=11,
    spatial=True,
)

MS_SSIM = MetricSpec(
    name="ms_ssim",
    network="iqazoo.metrics.ms_ssim:MSSSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Structural similarity over five scales",
    paper="Wang, Simoncelli, Bovik, Asilomar 2003",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=161,
)

RMSE = MetricSpec(
    name="rmse",
    network="iqazoo.metrics.rmse:RMSE",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Root mean squared error",
    license="Apache-2.0",
    channels=(1, 3),
)

MAE = MetricSpec(
    name="mae",
    network="iqazoo.metrics.mae:MAE",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Mean absolute error",
    license="Apache-2.0",
    channels=(1, 3),
    spatial=True,
)

UQI = MetricSpec(
    name="uqi",
    network="iqazoo.metrics.uqi:UQI",
    kind="FR",
    lower_is_better=False,
    score_range=(-1.0, 1.0),
    summary="Universal quality index in windows of 8 pixels",
    paper="Wang, Bovik, IEEE SPL 2002",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=8,
    spatial=True,
)

GMSD = MetricSpec(
    name="gmsd",
    network="iqazoo.metrics.gmsd:GMSD",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, 1.0),
    summary="Deviation of the similarity of gradients",
    paper="Xue, Zhang, Mou, Bovik, IEEE TIP 2014",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=4,
    spatial=True,
)

MS_GMSD = MetricSpec(
    name="ms_gmsd",
    network="iqazoo.metrics.ms_gmsd:MSGMSD",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, 1.0),
    summary="Deviation of the similarity of gradients over four scales",
    paper="Zhang, Sun, Liu, Feng, IEEE ICASSP 2017",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=17,
)

MS_GMSDC = MetricSpec(
    name="ms_gmsdc",
    network="iqazoo.metrics.ms_gmsd:MSGMSD",
    kind="FR",
    lower_is_better=True,
    options={"chromatic": True},
    score_range=(0.0, math.inf),
    summary="Deviation of the similarity of gradients over four scales, with chrominance",
    paper="Zhang, Sun, Liu, Feng, IEEE ICASSP 2017",
    license="Apache-2.0",
    channels=(3,),
    min_size=17,
)

FSIM = MetricSpec(
    name="fsim",
    network="iqazoo.metrics.fsim:FSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Similarity of phase congruency and gradients",
    paper="Zhang, Zhang, Mou, Zhang, IEEE TIP 2011",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=8,
    spatial=True,
)

FSIMC = MetricSpec(
    name="fsimc",
    network="iqazoo.metrics.fsim:FSIM",
    kind="FR",
    lower_is_better=False,
    options={"chromatic": True},
    score_range=(0.0, 1.0),
    summary="Similarity of phase congruency, gradients and chrominance",
    paper="Zhang, Zhang, Mou, Zhang, IEEE TIP 2011",
    license="Apache-2.0",
    channels=(3,),
    min_size=8,
    spatial=True,
)

SR_SIM = MetricSpec(
    name="sr_sim",
    network="iqazoo.metrics.sr_sim:SRSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Similarity of spectral residuals and gradients",
    paper="Zhang, Li, IEEE ICIP 2012",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=37,
    spatial=True,
)

VSI = MetricSpec(
    name="vsi",
    network="iqazoo.metrics.vsi:VSI",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Similarity of visual saliency, gradients and chrominance",
    paper="Zhang, Shen, Li, IEEE TIP 2014",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=3,
    spatial=True,
)

MDSI = MetricSpec(
    name="mdsi",
    network="iqazoo.metrics.mdsi:MDSI",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Mean deviation of the similarity of gradients and chrominance",
    paper="Nafchi, Shahkolaei, Hedjam, Cheriet, IEEE Access 2016",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=3,
    spatial=True,
)

HAARPSI = MetricSpec(
    name="haarpsi",
    network="iqazoo.metrics.haarpsi:HaarPSI",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Similarity of Haar coefficients",
    paper="Reisenhofer, Bosse, Kutyniok, Wiegand, SPIC 2018",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=16,
    spatial=True,
)

VIFP = MetricSpec(
    name="vifp",
    network="iqazoo.metrics.vifp:VIFP",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, math.inf),
    summary="Share of the information that the image keeps, in pixels",
    paper="Sheikh, Bovik, IEEE TIP 2006",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=41,
)

CIEDE2000 = MetricSpec(
    name="ciede2000",
    network="iqazoo.metrics.ciede2000:CIEDE2000",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Mean colour difference CIEDE2000",
    paper="Sharma, Wu, Dalal, Color Research and Application 2005",
    license="Apache-2.0",
    channels=(3,),
    spatial=True,
)

SAM = MetricSpec(
    name="sam",
    network="iqazoo.metrics.sam:SAM",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.pi / 2),
    summary="Mean angle between colours in radians",
    paper="Kruse et al., Remote Sensing of Environment 1993",
    license="Apache-2.0",
    channels=(3,),
    spatial=True,
)

SCC = MetricSpec(
    name="scc",
    network="iqazoo.metrics.scc:SCC",
    kind="FR",
    lower_is_better=False,
    score_range=(-1.0, 1.0),
    summary="Correlation of details",
    paper="Zhou, Civco, Silander, IJRS 1998",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=2,
)

ERGAS = MetricSpec(
    name="ergas",
    network="iqazoo.metrics.ergas:ERGAS",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Relative global error in synthesis",
    paper="Wald, Fusion of Earth Data 2000",
    license="Apache-2.0",
    channels=(1, 3),
)

DSS = MetricSpec(
    name="dss",
    network="iqazoo.metrics.dss:DSS",
    kind="FR",
    lower_is_better=False,
    score_range=(-1.0, 1.0),
    summary="Similarity of local variances in the subbands of a block DCT",
    paper="Balanov, Schwartz, Moshe, Peleg, IEEE ICIP 2015",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=8,
)

IW_SSIM = MetricSpec(
    name="iw_ssim",
    network="iqazoo.metrics.iw_ssim:IWSSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Structural similarity over five scales, weighed by information",
    paper="Wang, Li, IEEE TIP 2011",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=161,
)

NLPD = MetricSpec(
    name="nlpd",
    network="iqazoo.metrics.nlpd:NLPD",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Distance of Laplacian pyramids, normalized as the eye adapts",
    paper="Laparra, Ballé, Berardino, Simoncelli, HVEI 2016",
    license="Apache-2.0",
    channels=(1, 3),
)

CW_SSIM = MetricSpec(
    name="cw_ssim",
    network="iqazoo.metrics.cw_ssim:CWSSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Similarity of the phases of complex wavelets, whatever small shifts",
    paper="Sampat, Wang, Gupta, Bovik, Markey, IEEE TIP 2009",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=49,
)

VIF = MetricSpec(
    name="vif",
    network="iqazoo.metrics.vif:VIF",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, math.inf),
    summary="Share of the information that the image keeps, in wavelets",
    paper="Sheikh, Bovik, IEEE TIP 2006",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=65,
)

MAD = MetricSpec(
    name="mad",
    network="iqazoo.metrics.mad:MAD",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Most apparent distortion: what is detected, and how the image appears",
    paper="Larson, Chandler, Journal of Electronic Imaging 2010",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=34,
)
