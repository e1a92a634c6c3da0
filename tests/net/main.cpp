#include <gst/gst.h>
#include <gtest/gtest.h>

#include "loop/harness.h"
#include "net/network.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!cfr::test::Network::enter()) {
    printf("%s\n", cfr::test::Network::problem().c_str());
    return 1;
  }
  gst_init(&argc, &argv);
  cfr::test::Sfu::place(cfr::test::Network::there(), cfr::test::Network::kTheirs);
  int result = RUN_ALL_TESTS();
  // A filter that fits nothing is a mistake.
  return testing::UnitTest::GetInstance()->test_to_run_count() > 0 ? result : 1;
}
