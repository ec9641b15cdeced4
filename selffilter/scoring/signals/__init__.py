"""Signals: one small file each behind one interface. Pure: features in, one number a row out."""
