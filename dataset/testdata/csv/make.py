"""Writes nasty.csv and what Python's csv module reads from it, nasty.json. Run in this folder: python3 make.py"""

import csv
import io
import json

NASTY = (
    "\ufeffid,text,label\r\n"
    "1,simple,a\r\n"
    '2,"con ""comillas"" dentro",b\r\n'
    '3,"dos\r\nlineas",c\n'
    '4,"coma, y; punto",\U0001f600\r'
    "\r\n"
    '5,comillas "en medio" de un campo,d\n'
    '6,"cerrado"y sigue,e\n'
    "\n\n"
    '7,"",f\r\n'
    "8,,g\n"
    '"9","""","h"\n'
    '10,"solo\rCR",i\n'
    "11,  espacios  ,j\n"
    '12,"tab\ty \\ barra",k\n'
    "13,a\u00f1o \u00f1and\u00fa \u4f60\u597d,l\n"
    '14,"\n\n",m\n'
    "15, \"no es comilla\",n\n"
    "16,demasiados,o,campos,aqui\n"
    "17,pocos\n"
    '18,"""entero""",p\n'
    "19,sin fin de linea,q"
)

with open("nasty.csv", "w", encoding="utf-8", newline="") as file:
    file.write(NASTY)
with open("nasty.csv", encoding="utf-8-sig", newline="") as file:
    rows = [row for row in csv.reader(file) if row]
with open("nasty.json", "w", encoding="utf-8") as file:
    json.dump(rows, file, ensure_ascii=False, indent=0)
    file.write("\n")
