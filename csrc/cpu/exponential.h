// exp of vectors of doubles, of any width.
#pragma once

namespace iqazoo::cpu {

// x = exp(x) for -708 <= x <= 0, by Taylor's series around multiples of log 2; error 2e-16. `Bits` are unsigned
// integers of the vector's width: n is added to the exponent as one.
template <typename Bits, typename Vector>
inline void exp_doubles(Vector& x) {
  const Vector shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52: the low bits hold n
  const Vector n = shifted - 6755399441055744.0;
  const Vector r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  Vector sum = r * (1.0 / 479001600) + 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  x = (Vector)((Bits)sum + ((Bits)shifted << 52));
}

}  // namespace iqazoo::cpu
