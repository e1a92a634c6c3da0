#include <gst/gst.h>
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  gst_init(&argc, &argv);
  int result = RUN_ALL_TESTS();
  // A filter that fits nothing is a mistake.
  return testing::UnitTest::GetInstance()->test_to_run_count() > 0 ? result : 1;
}
