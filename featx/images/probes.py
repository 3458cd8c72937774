"""Six tiny images whose pixels identify the decoder (`featx.images.decoder.decoder_identity`).

Made with Pillow of a colour gradient with a red square; each is a file in base 85.
"""

from __future__ import annotations

from base64 import b85decode

PROBES: dict[str, bytes] = {
    name: b85decode(text)
    for name, text in {
        "a JPEG of 42 x 26 pixels, 4:2:0, EXIF orientation 6": (
            "|JeWF01!$>Nk#wx0RR9200961|KR{4MR;ju002!*04e|g00;m90TKWM0000100sa600000|JwjV02B@n5)Ta&5)cv>6%-gAG9exu"
            "93DL^E+jHZKuk+VKt@GST61DhRc%&9Mr4R(ZFhTtf`Lw8jhBplmUDiAeE-`3Lje^R7akfOJ0T%Ed{ahKe0+R-e0+R-e0+R-e0+R-"
            "e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0+R-e0=}F01*fP8UQK-0U`hb5di}c0sq7R7XSeP0RaF20000000000000970tNrX"
            "038qj0s{a80RaF200000000000s#YI6EQ&q692>i7XbkQ0RaF20000000000000C90tWxY03Q(m0s{a70s{a500000000010ssRM"
            "1QQY=6ft4{+5ij#0RRFK0}%i}0N^b+JbcX_6s<TX;itl%E0<#DfZ4tWRh!t^pP)%%iH_h!rwWp(p5SGt0{oUMt@j#TQOc>&BwBFa"
            "31ZWR_;4fgJ;tTJpshG6(}O6AYRgRFs&fTt!B(6ZL{fd0nNp`PmYg@jI-3Iaos^NzPyg8"
        ),
        "a CMYK JPEG": (
            "|JeWT01iQ9Z(?NtWB>pF0095n07C!}3k(hn3J?wr4iXU%6BsBO7#0>7F(V}%C^|DeJUKHsH$X^SPC!IgMK?H5ZBbWWVrOV)K233X"
            "aAbH~WoKjmzyK5o00;mG1Va%3O%VWD5dcdO0RO}Q761VO0RR910000000000000I91pmYUA`k!o1p@^E0RR9100000000341Q8Md"
            "1rq`WA~9hUA^+L{4g^C0O#oQ{O8@{r0IvDEt+wh$2+qZpbK|64qTPq1Ns=4~&Bfx?n`+vUEd@VWIUxx05NCJjd<t1}Ji<i0dZO<C"
            "0D<Ly|Je"
        ),
        "an RGBA PNG": (
            "iBL{Q4GJ0x0000DNk~Le0000K0000C2nGNE0AdWC`v3p{F-b&0RCwBBWMKHuz{c>Ghgz70f%6Xo1H)gc;ZXzWVBo12VGN`IB3#HY"
            "Y9O5r1ORQHsqSx3!}S0F002ovPDHLkV1f"
        ),
        "a 16-bit greyscale PNG": (
            "iBL{Q4GJ0x0000DNk~Le0000A0000A5C8xG0QkvFA^-pYCrLy>RCwBBWMGg?kxY?Ffss-vk||6K?3fTqkP(|81MLMFiBSmvTBru}"
            "`R;}-00000NkvXXu0mjf"
        ),
        "a palette GIF with a transparent colour": (
            "M@dFFIbjq46aaz%092Ke7?rUVU&|>o)cPJMauU8#63-YC>mm6B0RR9304x9i000yK6aYX7eE<&#97xcB!Gi`0C=|eu;edw(B1)VX"
            "F@VL37y)S9$dRDHhaeFqR9K*)NdXj767X11q(PDgK+04}@nl1q69r)0$+0JZof&<0WGT?)ONB&Z4sc1bz(AQ$5jGV76(Y`vHW^;U"
            "nsqCItSGkv4J!2K*Z^fWo<*A$KtKRH"
        ),
        "a lossy WebP": (
            "Qb|TeoB#j-S4BclR!}$~kN^Mx&;<aU0V)^(7yv&Ja;{LUCZr;;7z_b`A_;5&oic=V2fA@VxNmQZ{ssQ`AW=cJ>qKAj1p1Hw{_Hp-"
            "o%W>V9UuIUt@lILF9BhpHKLkWf5Jk*<9^|P%1Wr_w4ZN_o+HUho&`m=x?Nzhz*6FLu8Q<^vK;u_p~A~W%2w+%O_4cy2C_sO+A!NU"
            "AXxwa"
        ),
    }.items()
}
